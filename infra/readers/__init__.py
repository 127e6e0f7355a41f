"""Readers: a file of one format to blocks of records. A reader is a module here with one function.

The contract: `read(path, record, block_rows)` yields `Block`s in file order, in memory bounded by
`block_rows`; every block holds `record.values` values a row as `record.dtype`; a value that is missing,
not a number or outside `[record.low, record.high]` raises `BadRecord` with file and row; so does a file
that is not of the format. Reading twice gives the same. A label that is empty is no label.

`companions(uri, record)` names the other files that belong to one, for formats that keep labels apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from data_catalog.errors import BadRecord
from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records: `x` (n, ...) as the schema's dtype, `labels` (n,) strings or None."""

    first_row: int
    x: NDArray[np.generic]
    labels: NDArray[np.str_] | None


class Reader(Protocol):
    """What a reader module offers."""

    def read(self, path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
        """The file's records in blocks of at most about `block_rows`."""
        ...

    def companions(self, uri: str, record: Schema) -> tuple[str, ...]:
        """The files beside `uri` that are read with it, as paths or URLs."""
        ...

    def write_example(self, path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
        """Write a small file of this format and return its schema: the conformance suite reads it back."""
        ...


READERS: Registry[Reader] = Registry(__name__, "format")


def checked(values: NDArray[np.generic], record: Schema, path: Path, first_row: int) -> NDArray[np.generic]:
    """The values as the schema's dtype.

    Args:
        values: (n, record.values) numbers.
        record: what they should be.
        path: for the error.
        first_row: number of the first row in its file.

    Raises:
        BadRecord: they are no numbers at all, or the first row that has NaN, a value out of range or one that
            the dtype cannot hold.
    """
    dtype = np.dtype(record.dtype)
    if values.dtype.kind not in "biuf":
        raise BadRecord(
            f"{path}, row {first_row}: holds {values.dtype} where the schema says {record.dtype}; correct one"
        )
    wrong = ~np.isfinite(values.astype(np.float64)) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    reason = "is not a number"
    if not wrong.any():
        low = float(-np.inf if record.low is None else record.low)
        high = float(np.inf if record.high is None else record.high)
        wrong, reason = np.less(values, low) | np.greater(values, high), f"is outside [{low:g}, {high:g}]"
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    if not wrong.any():
        wrong = cast != values if dtype.kind in "iu" else ~np.isfinite(cast)
        reason = f"does not fit {record.dtype}"
    if wrong.any():
        row = int(np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))[0])
        value = values[row][wrong[row]].ravel()[0]
        raise BadRecord(f"{path}, row {first_row + row}: value {value} {reason}; correct the record or the schema")
    return cast
