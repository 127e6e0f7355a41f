"""The budget of escalations: what is read, how it is shared out, and which rows go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import BadInput
from data_catalog.nouns import EscalationBudget
from infra import ration

pytestmark = pytest.mark.property

GAINS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.125, 0.5, 1.0]))


@given(GAINS, st.none() | st.integers(0, 50))
def test_those_go_that_gain_most_and_of_equal_ones_the_earlier(gain, most):
    chosen = ration.ration(gain, most)
    assert chosen.sum() == (len(gain) if most is None else min(most, len(gain)))
    for stays in np.flatnonzero(~chosen):
        assert all(
            gain[goes] > gain[stays] or (gain[goes] == gain[stays] and goes < stays) for goes in np.flatnonzero(chosen)
        )


@given(GAINS, st.integers(0, 40), st.integers(0, 40))
def test_a_larger_budget_takes_nothing_back(gain, one, other):
    few, many = (ration.ration(gain, most) for most in sorted([one, other]))
    assert (few <= many).all()


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(1, 1e9)), min_size=1, max_size=6),
    st.none() | st.integers(0, 5000), st.none() | st.integers(0, 10**9), st.none() | st.floats(0, 1e4),
)  # fmt: skip
def test_the_sites_together_keep_the_budget_of_the_run(sites, rows, size, seconds):
    parts, up = zip(*sites, strict=True)
    shares = ration.share(EscalationBudget(rows=rows, bytes=size, seconds=seconds), parts, up)
    assert len(shares) == len(sites)
    if rows is None:
        assert all(share[0] is None for share in shares)
    elif sum(parts):
        assert sum(share[0] for share in shares) == rows
    for (_, most), rate in zip(shares, up, strict=True):
        assert (most is None) == (size is None and seconds is None)
        assert seconds is None or most <= seconds * rate
    if size is not None:
        assert sum(share[1] for share in shares) <= size


@pytest.mark.parametrize(
    ("amounts", "budget"),
    [
        ((), None), (("200",), EscalationBudget(rows=200)), (("12 rows",), EscalationBudget(rows=12)), (("50kB",), EscalationBudget(bytes=50_000)),
        (("1.5MiB", "10s"), EscalationBudget(bytes=1.5 * 2**20, seconds=10)), (("2min", "0"), EscalationBudget(rows=0, seconds=120)),
    ],
)  # fmt: skip
def test_amounts_are_read(amounts, budget):
    assert ration.read_budget(amounts) == budget


@pytest.mark.parametrize("amounts", [("",), ("many",), ("-3",), ("3 apples",), ("nan",), ("1kB", "2kB"), ("1e3",)])
def test_what_is_no_budget_is_named(amounts):
    with pytest.raises(BadInput, match="--escalate-at-most"):
        ration.read_budget(amounts)
