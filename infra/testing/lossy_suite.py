"""What every lossy coding must do; see `infra.lossy` for the contract. Its `EXAMPLE` settings are used, on made records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.lossy import largest_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.lossy import Lossy

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def records(lossy: Lossy) -> st.SearchStrategy[NDArray[np.generic]]:
    """Records that look like images, of the dtypes that it takes."""
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=18)
    shapes |= st.tuples(shapes, st.sampled_from((1, 3))).map(lambda both: (*both[0], both[1]))
    return st.sampled_from(lossy.DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))


def check_it_has_a_version(lossy: Lossy) -> None:
    """`VERSION` is a whole number from 1: it is part of every result's name."""
    assert type(lossy.VERSION) is int
    assert lossy.VERSION >= 1


def check_the_shape_stays_and_the_error_can_be_told(lossy: Lossy) -> None:
    """Same shape and dtype, what is not finite as it was, and the input left alone."""

    @FEW
    @given(records(lossy))
    def hold(x: NDArray[np.generic]) -> None:
        before = x.copy()
        coded = lossy.apply(x, **lossy.EXAMPLE)
        assert (coded.shape, coded.dtype) == (x.shape, x.dtype)
        assert largest_error(x, coded) >= 0
        assert x.tobytes() == before.tobytes()

    hold()


def check_again_changes_nothing(lossy: Lossy) -> None:
    """So a shard that is read, coded and cut again keeps its name."""

    @FEW
    @given(records(lossy))
    def hold(x: NDArray[np.generic]) -> None:
        once = lossy.apply(x, **lossy.EXAMPLE)
        assert lossy.apply(once, **lossy.EXAMPLE).tobytes() == once.tobytes()

    hold()


def check_records_do_not_depend_on_one_another(lossy: Lossy) -> None:
    """The block that a record is read in must not change it."""

    @FEW
    @given(records(lossy))
    def hold(x: NDArray[np.generic]) -> None:
        whole = lossy.apply(x, **lossy.EXAMPLE)
        alone = np.concatenate([lossy.apply(x[row : row + 1], **lossy.EXAMPLE) for row in range(len(x))])
        assert alone.tobytes() == whole.tobytes()

    hold()


def check_unknown_settings_are_refused(lossy: Lossy) -> None:
    """A setting that it does not have is an error."""
    with pytest.raises((TypeError, ValueError)):
        lossy.apply(np.ones((2, 3, 3), lossy.DTYPES[0]), **lossy.EXAMPLE, no_such_setting=1)


CHECKS = (
    check_it_has_a_version,
    check_the_shape_stays_and_the_error_can_be_told,
    check_again_changes_nothing,
    check_records_do_not_depend_on_one_another,
    check_unknown_settings_are_refused,
)
