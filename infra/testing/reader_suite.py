"""What every reader must do; see `infra.readers` for the contract. Its `write_example` makes the files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from data_catalog.errors import BadRecord, CatalogError
from infra.readers import Holds, accepted, strict

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema
    from infra.readers import Block, Reader

ROWS = 103


def _holds(reader: Reader) -> Holds:
    """What the format can hold; a reader that does not say must hold everything."""
    holds: Holds = getattr(reader, "HOLDS", Holds())
    return holds


def _first(reader: Reader, *dtypes: str) -> str:
    """The first of these dtypes that the format holds, or else any."""
    return next((dtype for dtype in dtypes if dtype in _holds(reader).dtypes), _holds(reader).dtypes[0])


def _values(reader: Reader, dtype: str, rows: int = ROWS, shape: tuple[int, ...] = ()) -> NDArray[np.generic]:
    """Values over the whole range of the dtype, its ends included."""
    shape = shape or _holds(reader).shape
    random = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        x: NDArray[np.generic] = random.normal(size=(rows, *shape)).astype(dtype)
        x[0].flat[:2] = np.finfo(dtype).max, np.finfo(dtype).tiny
    else:
        ends = np.iinfo(dtype)
        x = random.integers(ends.min, ends.max, (rows, *shape), endpoint=True).astype(dtype)
        x[0].flat[:2] = ends.min, ends.max
    return x


def _labels(reader: Reader, rows: int = ROWS) -> NDArray[np.str_]:
    """Labels that look like numbers and like words, where the format holds text: both are text."""
    if not _holds(reader).text_labels:
        return np.array([f"{row % 7}" for row in range(rows)])
    return np.array([f"{row % 7:02d}" if row % 3 else "cat" for row in range(rows)])


def _example(
    reader: Reader,
    folder: Path,
    x: NDArray[np.generic],
    labels: NDArray[np.str_] | None = None,
    **changes: Any,
) -> tuple[Path, Schema]:
    path = folder / "example.data"
    _remove(path)
    return path, reader.write_example(path, x, labels).model_copy(update=changes)


def _remove(path: Path) -> None:
    """Examples may be folders."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(reader: Reader, path: Path, record: Schema, block_rows: int) -> tuple[list[Block], NDArray[np.generic]]:
    blocks = list(strict(reader.read(path, record, block_rows), path))
    return blocks, np.concatenate([block.x for block in blocks])


def check_every_dtype_survives(reader: Reader, folder: Path) -> None:
    """The values come back exactly, as the schema's dtype and shape."""
    for dtype in _holds(reader).dtypes:
        x = _values(reader, dtype)
        path, record = _example(reader, folder, x)
        blocks, back = _read(reader, path, record, 1000)
        assert back.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(back, x)
        assert all(block.labels is None for block in blocks)


def check_labels_survive(reader: Reader, folder: Path) -> None:
    """Labels are text, whatever they look like, and stay beside their records."""
    labels = _labels(reader)
    path, record = _example(reader, folder, _values(reader, _first(reader, "uint8")), labels)
    blocks, back = _read(reader, path, record, 10)
    assert len(back) == ROWS
    for block in blocks:
        assert block.labels is not None
        assert len(block.labels) == len(block.x)
    np.testing.assert_array_equal(np.concatenate([np.asarray(block.labels) for block in blocks]), labels)


def check_blocks_are_bounded_and_in_order(reader: Reader, folder: Path) -> None:
    """No block is longer than the limit, none is empty, and `first_row` counts the file's rows."""
    x = _values(reader, _first(reader, "int32"))
    path, record = _example(reader, folder, x, _labels(reader))
    for block_rows in (1, 7, ROWS, 10 * ROWS):
        blocks, back = _read(reader, path, record, block_rows)
        np.testing.assert_array_equal(back, x)
        position = 0
        for block in blocks:
            assert block.first_row == position
            assert 0 < len(block.x) <= block_rows
            position += len(block.x)


def check_large_files_are_bounded_too(reader: Reader, folder: Path) -> None:
    """The limit holds where the format has its own idea of a block."""
    x = _values(reader, _first(reader, "uint8"), _holds(reader).rows)
    path, record = _example(reader, folder, x)
    blocks, back = _read(reader, path, record, 64)
    assert max(len(block.x) for block in blocks) <= 64
    np.testing.assert_array_equal(back, x)


def check_reading_twice_gives_the_same(reader: Reader, folder: Path) -> None:
    """Order and blocks do not change from one reading to the next, nor does reading one disturb another."""
    path, record = _example(reader, folder, _values(reader, _first(reader, "float32")), _labels(reader))
    twice = zip(reader.read(path, record, 9), reader.read(path, record, 9), strict=True)
    for one, other in twice:
        assert one.first_row == other.first_row
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(np.asarray(one.labels), np.asarray(other.labels))


def check_bad_values_name_file_and_row(reader: Reader, folder: Path) -> None:
    """NaN, infinity, out of range, and what the dtype cannot hold: each bad row, by number and with a reason.

    Left to `strict` the first of them is a BadRecord with file and row; the rows around them stay as they are.
    """
    row, tried = 61, 0
    for value, changes in (
        (np.nan, {}),
        (np.inf, {}),
        (-np.inf, {"low": 0.0}),
        (1.5, {"high": 1.0}),
        (-0.5, {"low": 0.0}),
        (300.0, {"dtype": "uint8"}),
        (-1.0, {"dtype": "uint16"}),
        (1.5, {"dtype": "int32"}),
        (1e300, {"dtype": "float32"}),
        (2.0, {"high": 1.0}),
        (0.0, {"low": 1.0}),
    ):
        dtype = next((dtype for dtype in reversed(_holds(reader).dtypes) if _can_be(value, dtype)), None)
        if dtype is None:
            continue
        tried += 1
        x = np.ones((ROWS, *_holds(reader).shape), dtype)
        x[row].flat[3] = x[row + 9].flat[0] = value
        path, record = _example(reader, folder, x, _labels(reader), **changes)
        for block_rows in (10, 1000):
            blocks = list(reader.read(path, record, block_rows))
            rejected = [bad for block in blocks for bad in block.rejected]
            assert [bad.row for bad in rejected] == [row, row + 9]
            assert all(bad.reason and json.loads(bad.values) for bad in rejected)
            kept = np.concatenate([block.x[accepted(block)] for block in blocks])
            np.testing.assert_array_equal(kept, np.ones((ROWS - 2, *record.shape), record.dtype))
            with pytest.raises(BadRecord, match=rf"example\.data, row {row}: .*correct"):
                list(strict(blocks, path))
    assert tried >= 3


def _can_be(value: float, dtype: str) -> bool:
    """Whether an example of the dtype can hold the value."""
    if np.dtype(dtype).kind == "f":
        return not bool(np.isfinite(value)) or abs(value) <= float(np.finfo(dtype).max)
    return bool(np.isfinite(value)) and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def check_the_ends_of_a_range_belong_to_it(reader: Reader, folder: Path) -> None:
    """`low` and `high` are themselves allowed."""
    x = _values(reader, _first(reader, "uint8"), 2)
    path, record = _example(reader, folder, x, low=float(x.min()), high=float(x.max()))
    np.testing.assert_array_equal(_read(reader, path, record, 10)[1], x)


def check_another_shape_is_refused(reader: Reader, folder: Path) -> None:
    """A schema with more or fewer values than the file's records is a BadRecord that names the file."""
    path, record = _example(reader, folder, _values(reader, _first(reader, "uint8")))
    *outer, last = _holds(reader).shape
    for shape in ((*outer, last - 1), (*outer, last + 1), (*outer, last, 2)):
        with pytest.raises(BadRecord, match=r"example\.data"):
            _read(reader, path, record.model_copy(update={"shape": shape}), 10)


def check_missing_labels_are_refused(reader: Reader, folder: Path) -> None:
    """A schema that asks for labels which the file does not have, by name or by number."""
    path, record = _example(reader, folder, _values(reader, _first(reader, "uint8")))
    for label in ("no-such-column", 45):
        with pytest.raises((BadRecord, CatalogError), match=r"example\."):
            _read(reader, path, record.model_copy(update={"label": label}), 10)


def check_other_files_are_refused(reader: Reader, folder: Path) -> None:
    """An empty file, noise and no file at all are a BadRecord that names the file, whatever becomes of bad records."""
    path, record = _example(reader, folder, _values(reader, _first(reader, "uint8")))
    for content in (b"", np.random.default_rng(6).bytes(3000), None):
        _remove(path)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadRecord, match=r"example\.data"):
            list(reader.read(path, record, 10))


CHECKS = (
    check_every_dtype_survives,
    check_labels_survive,
    check_blocks_are_bounded_and_in_order,
    check_large_files_are_bounded_too,
    check_reading_twice_gives_the_same,
    check_bad_values_name_file_and_row,
    check_the_ends_of_a_range_belong_to_it,
    check_another_shape_is_refused,
    check_missing_labels_are_refused,
    check_other_files_are_refused,
)
