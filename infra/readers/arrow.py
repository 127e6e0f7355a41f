"""Arrow IPC, file or stream; see `infra.readers._columns` for what its columns may hold.

The file format is the stream format between a magic word and a footer, and is read as such. A stream must
end with its end-of-stream mark, so one that was cut is never taken for a shorter one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from data_catalog.nouns import Schema
from infra.readers import Block, _columns, _messages, parquet, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")
MAGIC = b"ARROW1"


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records; see the family's contract. A block is at most one of the file's own batches.

    Raises:
        BadRecord: not Arrow IPC, cut, or with columns that do not fit the schema.
    """
    with whole(path, "Arrow IPC"):
        with path.open("rb") as file:
            is_file = file.read(len(MAGIC)) == MAGIC
            if is_file:
                file.seek(-len(MAGIC), 2)
                if file.read() != MAGIC:
                    raise ValueError("it is cut")
        # mapped: bytes that are not compressed are never copied, and none is allocated because a header says so
        with pa.memory_map(str(path)) as mapped:
            start = 8 if is_file else 0
            _messages.require_sane(mapped, start, record)
            mapped.seek(start)
            yield from _blocks(pa.ipc.open_stream(mapped), record, path, block_rows)


def _blocks(batches: pa.RecordBatchReader, record: Schema, path: Path, block_rows: int) -> Iterator[Block]:
    columns = _columns.chosen(batches.schema, record, path)
    first_row = 0
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, block_rows):
            block = _columns.block(batch.slice(start, block_rows).select(columns), record, path, first_row)
            first_row += len(block.x)
            yield block


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a column."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with a column for each value of `x` (n, values) and perhaps one of labels, and its schema."""
    table = parquet.table(x, labels)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1 + len(x) // 3)
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "label")
