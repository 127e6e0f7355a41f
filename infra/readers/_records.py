"""What readers yield, and the checks of a record against its schema: arrays at a time, row by row only if bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog.errors import BadRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema

SHOWN_VALUES = 16  # of a rejected record
SHOWN_TEXT = 200
LONGEST_LABEL = 256  # characters; NumPy gives every label of a block the space of the longest


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that does not fit the schema: its row in the file, why, and its first values as JSON."""

    row: int
    reason: str
    values: str = "null"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records: `x` (n, ...) as the schema's dtype, `labels` (n,) strings or None.

    Rows of `rejected` are zeros in `x`.
    """

    first_row: int
    x: NDArray[np.generic]
    labels: NDArray[np.str_] | None
    rejected: tuple[Rejected, ...] = ()


def strict(blocks: Iterable[Block], path: Path) -> Iterator[Block]:
    """The blocks, as long as no record is rejected.

    Raises:
        BadRecord: one is; names file, row and reason.
    """
    for block in blocks:
        if block.rejected:
            first = min(block.rejected, key=lambda bad: bad.row)
            raise BadRecord(f"{path}, row {first.row}: {first.reason}; correct the record or the schema")
        yield block


def accepted(block: Block) -> NDArray[np.bool_]:
    """(n,) whether each row of the block is a record that fits the schema."""
    mask = np.ones(len(block.x), bool)
    mask[[bad.row - block.first_row for bad in block.rejected]] = False
    return mask


def as_json(values: object) -> str:
    """Values for a person who mends a record: JSON, bounded, whatever they are."""
    if isinstance(values, np.ndarray):
        values = values.ravel()[:SHOWN_VALUES].tolist()
    text = json.dumps(values, default=str, ensure_ascii=True)
    return text if len(text) <= SHOWN_TEXT else json.dumps(text[: SHOWN_TEXT // 2])


def checked(values: NDArray[np.generic], record: Schema, path: Path, first_row: int) -> Block:
    """A block of the values as the schema's dtype and shape, without labels.

    Args:
        values: (n, ...) numbers, `record.values` a row.
        record: what they should be.
        path: for the error.
        first_row: number of the first row in its file.

    Returns:
        The block; rejected are rows with NaN, a value out of range or one that the dtype cannot hold.

    Raises:
        BadRecord: they are no numbers at all.
    """
    if values.dtype.kind not in "biuf":
        raise BadRecord(
            f"{path}, row {first_row}: holds {values.dtype} where the schema says {record.dtype}; correct one"
        )
    values = values.reshape(len(values), *record.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        x = values.astype(record.dtype)
    bad: dict[int, Rejected] = {}
    for find, reason in _faults(values, x, record):
        wrong = find()
        if not wrong.any():
            continue
        for row in np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1)).tolist():
            value = values[row][wrong[row]].ravel()[0]
            bad.setdefault(row, Rejected(first_row + row, f"value {value} {reason}", as_json(values[row])))
    if bad:
        x[list(bad)] = 0
    return Block(first_row, x, None, tuple(bad[row] for row in sorted(bad)))


Fault = tuple[Callable[[], "NDArray[np.bool_]"], str]


def _faults(values: NDArray[np.generic], x: NDArray[np.generic], record: Schema) -> list[Fault]:
    """How values can be wrong, in the order in which it is said; each looks at all of them at once."""
    faults: list[Fault] = []
    if values.dtype.kind == "f":
        faults.append((lambda: ~np.isfinite(values), "is not a number"))
    if record.low is not None or record.high is not None:
        low = float(-np.inf if record.low is None else record.low)
        high = float(np.inf if record.high is None else record.high)
        faults.append((lambda: np.less(values, low) | np.greater(values, high), f"is outside [{low:g}, {high:g}]"))
    if values.dtype != x.dtype:
        fits = (lambda: x != values) if x.dtype.kind in "iu" else (lambda: ~np.isfinite(x))
        faults.append((fits, f"does not fit {record.dtype}"))
    return faults


def with_rejected(block: Block, more: Mapping[int, Rejected]) -> Block:
    """The block, with rows rejected for reasons found elsewhere, which come first; by row of the file."""
    if not more:
        return block
    block.x[[row - block.first_row for row in more]] = 0
    rejected = {bad.row: bad for bad in block.rejected} | dict(more)
    return replace(block, rejected=tuple(rejected[row] for row in sorted(rejected)))


def with_labels(block: Block, texts: pa.Array | Sequence[str | None]) -> Block:
    """The block with its labels.

    Args:
        block: its records.
        texts: (n,) labels, null or empty where there is none; one that is too long rejects its row.
    """
    labels = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
    labels = labels.fill_null("")
    long = pc.greater(pc.utf8_length(labels), LONGEST_LABEL)
    rows = [] if not pc.any(long).as_py() else np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist()
    if rows:
        labels = pc.if_else(long, pa.scalar("", labels.type), labels)
    found = {
        block.first_row + row: Rejected(block.first_row + row, f"its label has over {LONGEST_LABEL} characters")
        for row in rows
    }
    return with_rejected(replace(block, labels=labels.to_numpy(zero_copy_only=False).astype(np.str_)), found)
