"""Blocks from records that come one by one, as in JSON Lines, TFRecord and folders of pictures."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from infra.readers._records import Rejected, as_json, checked, with_labels, with_rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema
    from infra.readers._records import Block

# Values of one record in any shape with the right number, or why there are none; and its label.
Row = tuple["NDArray[np.generic] | str", str | None]


def blocks(rows: Iterable[Row], record: Schema, path: Path, block_rows: int) -> Iterator[Block]:
    """Blocks of `block_rows` records; a record without values, or of another size, is rejected.

    Args:
        rows: the records.
        record: what each should be.
        path: for errors.
        block_rows: how many make a block.
    """
    numbered, first_row = iter(rows), 0
    while taken := list(islice(numbered, block_rows)):
        bad: dict[int, Rejected] = {}
        good: list[NDArray[np.generic]] = []
        places: list[int] = []
        for row, (values, _) in enumerate(taken):
            reason = values if isinstance(values, str) else _fault(values, record)
            if reason or isinstance(values, str):
                shown = "null" if isinstance(values, str) else as_json(values)
                bad[first_row + row] = Rejected(first_row + row, reason, shown)
            else:
                good.append(values.ravel())
                places.append(row)
        merged = np.stack(good) if good else np.empty((0, record.values), record.dtype)
        if bad:
            spread = np.zeros((len(taken), record.values), merged.dtype)
            spread[places] = merged
            merged = spread
        block = checked(merged, record, path, first_row)
        if record.label is not None:
            block = with_labels(block, [label for _, label in taken])
        yield with_rejected(block, bad)
        first_row += len(taken)


def _fault(values: NDArray[np.generic], record: Schema) -> str:
    if values.dtype.kind not in "biuf":
        return f"holds {values.dtype} where the schema says {record.dtype}"
    return "" if values.size == record.values else f"{values.size} values where the schema says {record.values}"
