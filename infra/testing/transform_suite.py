"""What every transform must do; see `infra.transforms` for the contract. Its `EXAMPLE` settings are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.transforms import TransformPlugin

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
RECORDS = st.integers(0, 40).flatmap(lambda n: hnp.arrays(np.uint8, (n, 64)))


def check_it_has_a_version(transform: TransformPlugin) -> None:
    """`VERSION` is a whole number from 1: it is part of every result's name."""
    assert type(transform.VERSION) is int
    assert transform.VERSION >= 1


def check_its_name_can_be_written(transform: TransformPlugin) -> None:
    """The settings are what YAML can say, hence what a digest can name."""
    import json

    assert json.loads(json.dumps(transform.EXAMPLE)) == transform.EXAMPLE


def check_rows_are_kept_and_nothing_is_changed(transform: TransformPlugin) -> None:
    """As many rows come out as went in, and the input is as it was, read-only input included."""

    @FEW
    @given(RECORDS)
    def keep(x: NDArray[np.generic]) -> None:
        before = x.copy()
        y = transform.apply(x, **transform.EXAMPLE)
        assert isinstance(y, np.ndarray)
        assert len(y) == len(x)
        np.testing.assert_array_equal(x, before)
        x.flags.writeable = False
        np.testing.assert_array_equal(transform.apply(x, **transform.EXAMPLE), y)

    keep()


def check_rows_do_not_see_their_neighbours(transform: TransformPlugin) -> None:
    """Parts give what the whole gives, in any cut, and so does every order."""

    @FEW
    @given(RECORDS, st.data())
    def part(x: NDArray[np.generic], draw: st.DataObject) -> None:
        whole = transform.apply(x, **transform.EXAMPLE)
        cut = draw.draw(st.integers(0, len(x)), label="cut")
        parts = [transform.apply(p, **transform.EXAMPLE) for p in (x[:cut], x[cut:])]
        assert all(p.dtype == whole.dtype and p.shape[1:] == whole.shape[1:] for p in parts)
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        np.testing.assert_array_equal(transform.apply(x[::-1], **transform.EXAMPLE), whole[::-1])

    part()


def check_its_output_makes_a_shard(transform: TransformPlugin) -> None:
    """What comes out can be written as a shard and read back."""
    import pyarrow as pa

    from infra import shards

    x = np.random.default_rng(7).integers(0, 255, (9, 64)).astype(np.uint8)
    y = transform.apply(x, **transform.EXAMPLE)
    ids = pa.array([str(row) for row in range(len(y))])
    np.testing.assert_array_equal(shards.decode(shards.encode(ids, y))[1], y)


def check_unknown_settings_are_refused(transform: TransformPlugin) -> None:
    """A setting that it does not know is a TypeError or a ValueError, which the catalog's error wraps."""
    with pytest.raises((TypeError, ValueError), match=r"\S"):
        transform.apply(np.zeros((2, 64), np.uint8), **transform.EXAMPLE, no_such_setting=1)


CHECKS = (
    check_it_has_a_version,
    check_its_name_can_be_written,
    check_rows_are_kept_and_nothing_is_changed,
    check_rows_do_not_see_their_neighbours,
    check_its_output_makes_a_shard,
    check_unknown_settings_are_refused,
)
