"""What every transform must do; see `infra.transforms` for the contract. Its `EXAMPLE` settings are used.

`CHECKS` is for every transform; those that speak of one kind only say nothing of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.regrouping import regrouped
from infra.transforms import kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from infra.transforms import TransformPlugin

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
LABELS = st.sampled_from(["", "a", "b"])


def shape_of(transform: TransformPlugin) -> tuple[int, ...]:
    """The shape of one record of the suite."""
    return tuple(getattr(transform, "EXAMPLE_SHAPE", (64,)))


def records(transform: TransformPlugin, least: int = 0) -> st.SearchStrategy[NDArray[np.generic]]:
    """Up to 40 records for the transform."""
    return st.integers(least, 40).flatmap(lambda n: hnp.arrays(np.uint8, (n, *shape_of(transform))))


def applied(transform: TransformPlugin) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    """`apply` with the example's settings, fitted where it must be."""
    extra: dict[str, Any] = {}
    if kind(transform) == "fit":
        extra["statistics"] = transform.fit([_some(transform)], **transform.EXAMPLE)
    return lambda x: transform.apply(x, **transform.EXAMPLE, **extra)


def _some(transform: TransformPlugin, count: int = 9) -> NDArray[np.generic]:
    return np.random.default_rng(7).integers(0, 255, (count, *shape_of(transform))).astype(np.uint8)


def _works_row_by_row(transform: TransformPlugin) -> bool:
    return hasattr(transform, "apply")


def check_it_has_a_version(transform: TransformPlugin) -> None:
    """`VERSION` is a whole number from 1: it is part of every result's name."""
    assert type(transform.VERSION) is int
    assert transform.VERSION >= 1


def check_its_name_can_be_written(transform: TransformPlugin) -> None:
    """The settings are what YAML can say, hence what a digest can name."""
    import json

    assert json.loads(json.dumps(transform.EXAMPLE)) == transform.EXAMPLE


def check_it_is_of_one_kind(transform: TransformPlugin) -> None:
    """It has the functions of its kind and no others: `fit` goes with `apply`, all else stands alone."""
    has = {name for name in ("apply", "fit", "regroup", "augment") if hasattr(transform, name)}
    assert has in ({"apply"}, {"apply", "fit"}, {"regroup"}, {"augment"})


def check_rows_are_kept_and_nothing_is_changed(transform: TransformPlugin) -> None:
    """As many rows come out as went in, and the input is as it was, read-only input included."""
    if not _works_row_by_row(transform):
        return
    apply = applied(transform)

    @FEW
    @given(records(transform))
    def keep(x: NDArray[np.generic]) -> None:
        before = x.copy()
        y = apply(x)
        assert isinstance(y, np.ndarray)
        assert len(y) == len(x)
        np.testing.assert_array_equal(x, before)
        x.flags.writeable = False
        np.testing.assert_array_equal(apply(x), y)

    keep()


def check_rows_do_not_see_their_neighbours(transform: TransformPlugin) -> None:
    """Parts give what the whole gives, in any cut, and so does every order."""
    if not _works_row_by_row(transform):
        return
    apply = applied(transform)

    @FEW
    @given(records(transform), st.data())
    def part(x: NDArray[np.generic], draw: st.DataObject) -> None:
        whole = apply(x)
        cut = draw.draw(st.integers(0, len(x)), label="cut")
        parts = [apply(p) for p in (x[:cut], x[cut:])]
        assert all(p.dtype == whole.dtype and p.shape[1:] == whole.shape[1:] for p in parts)
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        np.testing.assert_array_equal(apply(x[::-1]), whole[::-1])

    part()


def check_it_is_fitted_on_blocks_as_on_all(transform: TransformPlugin) -> None:
    """Statistics are JSON, of any cut into blocks the same to seven digits, and without them nothing is applied."""
    if kind(transform) != "fit":
        return
    import json

    @FEW
    @given(records(transform, least=1), st.integers(1, 40))
    def agree(x: NDArray[np.generic], rows: int) -> None:
        whole = transform.fit([x], **transform.EXAMPLE)
        assert json.loads(json.dumps(whole)) == whole
        parts = transform.fit((x[start : start + rows] for start in range(0, len(x), rows)), **transform.EXAMPLE)
        assert list(parts) == list(whole)
        for name, values in whole.items():
            np.testing.assert_allclose(parts[name], values, rtol=2e-6, atol=1e-12, err_msg=name)

    agree()
    with pytest.raises(ValueError, match=r"\S"):
        transform.fit(iter(()), **transform.EXAMPLE)
    with pytest.raises(ValueError, match="statistics"):
        transform.apply(_some(transform), **transform.EXAMPLE)


def check_blocks_of_any_size_give_the_same_records(transform: TransformPlugin) -> None:
    """Cut the rows into any blocks: records, labels and the numbers of their first rows are the same."""
    if kind(transform) != "regroup":
        return

    @FEW
    @given(records(transform), st.data())
    def agree(x: NDArray[np.generic], draw: st.DataObject) -> None:
        texts = draw.draw(st.none() | st.lists(LABELS, min_size=len(x), max_size=len(x)), label="labels")
        labels = None if texts is None else np.array(texts, np.str_)
        cuts = sorted(draw.draw(st.lists(st.integers(0, len(x)), max_size=12), label="cuts"))
        numbers = 3 + 2 * np.arange(len(x))  # as a source has that owns every second row of its file
        before = x.copy()

        def made(cuts: list[int]) -> tuple[Any, ...]:
            blocks = [
                (numbers[a:b], x[a:b], None if labels is None else labels[a:b])
                for a, b in zip([0, *cuts], [*cuts, len(x)], strict=True)
            ]
            parts = list(regrouped(blocks, lambda x, labels: transform.regroup(x, labels, **transform.EXAMPLE)))
            return tuple(
                None if part[0] is None else [value for array in part for value in array.tolist()]
                for part in zip(*parts, strict=True)
            )

        assert made(cuts) == made([])
        np.testing.assert_array_equal(x, before)

    agree()


def check_a_view_follows_from_the_record_and_its_seed(transform: TransformPlugin) -> None:
    """Same shape and dtype, the same every time, whoever the neighbours are; another seed gives another view."""
    if kind(transform) != "augment":
        return

    @FEW
    @given(records(transform), st.data())
    def agree(x: NDArray[np.generic], draw: st.DataObject) -> None:
        seeds = draw.draw(hnp.arrays(np.uint64, len(x)), label="seeds")
        before = x.copy()
        whole = transform.augment(x, seeds, **transform.EXAMPLE)
        assert (whole.shape, whole.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(x, before)
        cut = draw.draw(st.integers(0, len(x)), label="cut")
        parts = [transform.augment(x[p], seeds[p], **transform.EXAMPLE) for p in (slice(cut), slice(cut, None))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        turned = transform.augment(x[::-1], seeds[::-1], **transform.EXAMPLE)
        np.testing.assert_array_equal(turned, whole[::-1])

    agree()
    x = _some(transform)
    one, other = (transform.augment(x, np.arange(9, dtype=np.uint64) + start, **transform.EXAMPLE) for start in (0, 99))
    assert (one != other).any()
    assert (one != x).any()


def check_its_output_makes_a_shard(transform: TransformPlugin) -> None:
    """What comes out can be written as a shard and read back."""
    import pyarrow as pa

    from infra import shards

    x = _some(transform)
    if kind(transform) == "regroup":
        y = transform.regroup(x, None, **transform.EXAMPLE).x
    elif kind(transform) == "augment":
        y = transform.augment(x, np.arange(9, dtype=np.uint64), **transform.EXAMPLE)
    else:
        y = applied(transform)(x)
    ids = pa.array([str(row) for row in range(len(y))])
    np.testing.assert_array_equal(shards.decode(shards.encode(ids, y))[1], y)


def check_unknown_settings_are_refused(transform: TransformPlugin) -> None:
    """A setting that it does not know is a TypeError or a ValueError, which the catalog's error wraps."""
    x, strange = _some(transform), transform.EXAMPLE | {"no_such_setting": 1}
    calls: dict[str, Callable[[], object]] = {
        "apply": lambda: transform.apply(x, **strange),
        "fit": lambda: transform.fit([x], **strange),
        "regroup": lambda: transform.regroup(x, None, **strange),
        "augment": lambda: transform.augment(x, np.arange(9, dtype=np.uint64), **strange),
    }
    for name in (name for name in calls if hasattr(transform, name)):
        with pytest.raises((TypeError, ValueError), match=r"\S"):
            calls[name]()


CHECKS = (
    check_it_has_a_version,
    check_its_name_can_be_written,
    check_it_is_of_one_kind,
    check_rows_are_kept_and_nothing_is_changed,
    check_rows_do_not_see_their_neighbours,
    check_it_is_fitted_on_blocks_as_on_all,
    check_blocks_of_any_size_give_the_same_records,
    check_a_view_follows_from_the_record_and_its_seed,
    check_its_output_makes_a_shard,
    check_unknown_settings_are_refused,
)
