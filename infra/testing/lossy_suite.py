"""What every lossy coding must do; see `infra.lossy` for the contract. Its `EXAMPLE` settings are used, on floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
FLOATS = st.sampled_from(("float32", "float64")).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=4, max_side=9))
)


def check_it_has_a_version(lossy: Lossy) -> None:
    """`VERSION` is a whole number from 1: it is part of every result's name."""
    assert type(lossy.VERSION) is int
    assert lossy.VERSION >= 1


def check_the_shape_stays_and_the_error_can_be_told(lossy: Any) -> None:
    """Same shape and dtype, what is not finite as it was, and the input left alone."""

    @FEW
    @given(FLOATS)
    def hold(x: NDArray[np.generic]) -> None:
        before = x.copy()
        coded = lossy.apply(x, **lossy.EXAMPLE)
        assert (coded.shape, coded.dtype) == (x.shape, x.dtype)
        assert largest_error(x, coded) >= 0
        assert x.tobytes() == before.tobytes()

    hold()


def check_again_changes_nothing(lossy: Any) -> None:
    """So a shard that is read, coded and cut again keeps its name."""

    @FEW
    @given(FLOATS)
    def hold(x: NDArray[np.generic]) -> None:
        once = lossy.apply(x, **lossy.EXAMPLE)
        assert lossy.apply(once, **lossy.EXAMPLE).tobytes() == once.tobytes()

    hold()


def check_records_do_not_depend_on_one_another(lossy: Any) -> None:
    """The block that a record is read in must not change it."""

    @FEW
    @given(FLOATS)
    def hold(x: NDArray[np.generic]) -> None:
        whole = lossy.apply(x, **lossy.EXAMPLE)
        alone = np.concatenate([lossy.apply(x[row : row + 1], **lossy.EXAMPLE) for row in range(len(x))])
        assert alone.tobytes() == whole.tobytes()

    hold()


def check_unknown_settings_are_refused(lossy: Any) -> None:
    """A setting that it does not have is an error."""
    with pytest.raises((TypeError, ValueError)):
        lossy.apply(np.ones((2, 3), np.float32), **lossy.EXAMPLE, no_such_setting=1)


CHECKS = (
    check_it_has_a_version,
    check_the_shape_stays_and_the_error_can_be_told,
    check_again_changes_nothing,
    check_records_do_not_depend_on_one_another,
    check_unknown_settings_are_refused,
)
