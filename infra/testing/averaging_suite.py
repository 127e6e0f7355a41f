"""What every average of `infra/averaging` must do, whatever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.averaging import Average

FEW = settings(max_examples=25, deadline=None, derandomize=True)
WEIGHTS = st.floats(-1e6, 1e6, width=32)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What some sites sent for three weights, and their rows."""
    sites = draw(st.integers(1, 9))
    stacked = draw(arrays(np.float32, (sites, 3), elements=WEIGHTS)).astype(np.float64)
    return stacked, draw(arrays(np.int64, sites, elements=st.integers(1, 10**6)))


def check_it_lies_between_what_was_sent(average: Average) -> None:
    """Every value lies between the smallest and the largest of the sites, in the shape of one update."""

    @FEW
    @given(rounds())
    def between(sent: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
        stacked, rows = sent
        made = average.average(stacked, rows)
        assert made.shape == stacked.shape[1:]
        assert made.dtype == np.float64
        assert ((stacked.min(axis=0) <= made) & (made <= stacked.max(axis=0))).all()

    between()


def check_of_one_update_it_is_that_update(average: Average) -> None:
    """One site, or many that sent the same."""
    one = np.random.default_rng(1).normal(size=(1, 4, 3))
    assert np.array_equal(average.average(one, np.array([7])), one[0])
    same = np.repeat(one, 5, axis=0)
    assert np.allclose(average.average(same, np.array([1, 2, 3, 4, 5])), one[0], rtol=1e-12)


def check_the_order_of_the_sites_does_not_matter(average: Average) -> None:
    """To within rounding."""

    @FEW
    @given(rounds(), st.integers(0, 99))
    def any_order(sent: tuple[NDArray[np.float64], NDArray[np.int64]], seed: int) -> None:
        stacked, rows = sent
        order = np.random.default_rng(seed).permutation(len(rows))
        other = average.average(stacked[order], rows[order])
        assert np.allclose(average.average(stacked, rows), other, rtol=1e-9, atol=1e-6)

    any_order()


def check_it_is_pure(average: Average) -> None:
    """It leaves what it gets as it was, and says the same again."""
    random = np.random.default_rng(2)
    stacked, rows = random.normal(size=(5, 3)), np.array([5, 1, 9, 2, 2])
    before, first = stacked.copy(), average.average(stacked, rows)
    assert np.array_equal(stacked, before)
    assert np.array_equal(average.average(stacked, rows), first)


def check_it_tolerates_what_it_says(average: Average) -> None:
    """As many sites as it tolerates send anything, with any rows: it still lies between what the others sent."""

    @FEW
    @given(rounds(), st.sampled_from([1e30, -1e30, 1e3]), st.data())
    def robust(sent: tuple[NDArray[np.float64], NDArray[np.int64]], lie: float, data: st.DataObject) -> None:
        stacked, rows = sent
        liars = average.tolerates(len(rows))
        assert 0 <= liars <= (len(rows) - 1) // 2
        honest = stacked[liars:]
        stacked[:liars] = lie * data.draw(arrays(np.float64, stacked[:liars].shape, elements=st.floats(-1, 1)))
        rows[:liars] = 10**9
        made = average.average(stacked, rows)
        assert ((honest.min(axis=0) <= made) & (made <= honest.max(axis=0))).all()

    robust()


CHECKS = (
    check_it_lies_between_what_was_sent,
    check_of_one_update_it_is_that_update,
    check_the_order_of_the_sites_does_not_matter,
    check_it_is_pure,
    check_it_tolerates_what_it_says,
)
