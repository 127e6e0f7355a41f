"""Parquet: a row a record; see `infra.readers._columns` for what its columns may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog.nouns import Schema
from infra.readers import Block, _columns, _pages, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".parquet", ".pq")
BUFFER = 1 << 20
LARGEST_METADATA = 64 << 20


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records, a page at a time; see the family's contract.

    Raises:
        BadRecord: not Parquet, damaged where it has checksums, or with columns that do not fit the schema.
    """
    with (
        whole(path, "Parquet"),
        pq.ParquetFile(
            path, buffer_size=BUFFER, page_checksum_verification=True,
            thrift_string_size_limit=LARGEST_METADATA, thrift_container_size_limit=1_000_000,
        ) as file,
    ):  # fmt: skip
        columns = _columns.chosen(file.schema_arrow, record, path)
        _pages.require_sane(path, file.metadata, record)
        first_row = 0
        for batch in file.iter_batches(block_rows, columns=columns, use_threads=False):
            block = _columns.block(batch.select(columns), record, path, first_row)
            first_row += len(block.x)
            if len(block.x):
                yield block
        if first_row != file.metadata.num_rows:
            raise ValueError(f"{first_row} rows where its footer says {file.metadata.num_rows}")


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a column."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with a column for each value of `x` (n, values) and perhaps one of labels, and its schema."""
    pq.write_table(table(x, labels), path, row_group_size=1 + len(x) // 3, write_page_checksum=True)
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "label")


def table(x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> pa.Table:
    """A column for each value of `x` (n, values), and one of the labels, if there are any."""
    columns = {f"x{i}": pa.array(x[:, i]) for i in range(x.shape[1])}
    return pa.table(columns if labels is None else columns | {"label": pa.array(labels.tolist(), pa.string())})
