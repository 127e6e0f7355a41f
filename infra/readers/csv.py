"""CSV, plain or compressed by its suffix (.gz, .bz2, .zst): one record a line, one of its columns a label.

With a label given by name the first line is a header; with one given by number, or none, there is no
header. All other columns, in file order, are the record's values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records; see the family's contract.

    Raises:
        BadRecord: not CSV, a wrong number of columns, no such label column, or a bad value.
    """
    options = pacsv.ReadOptions(
        autogenerate_column_names=not isinstance(record.label, str),
        block_size=max(1 << 16, block_rows * record.values * 4),
    )
    first_row = 0
    try:
        with (
            pa.input_stream(str(path), compression="detect") as stream,
            pacsv.open_csv(stream, options, convert_options=_types(path, record, options)) as batches,
        ):
            for batch in batches:
                for start in range(0, batch.num_rows, block_rows):
                    block = _block(batch.slice(start, block_rows), record, path, first_row)
                    first_row += len(block.x)
                    yield block
    except (pa.ArrowInvalid, OSError) as error:
        line = " ".join(str(error).split())[:160]
        raise BadRecord(f"{path}, near row {first_row}: not the CSV it should be ({line}); correct the file") from error


def _types(path: Path, record: Schema, options: pacsv.ReadOptions) -> pacsv.ConvertOptions:
    """The label as text, all else as float64, which holds every dtype of a schema.

    Left to itself Arrow guesses from the first block, and a later one may hold what the guess cannot: a
    fraction after whole numbers, a letter after digits.
    """
    if isinstance(record.label, str):
        with pa.input_stream(str(path), compression="detect") as stream, pacsv.open_csv(stream, options) as batches:
            types = dict.fromkeys(batches.schema.names, pa.float64()) | {record.label: pa.string()}
    else:
        names = [f"f{column}" for column in range(record.values + (record.label is not None))]
        types = dict.fromkeys(names, pa.float64())
        if record.label is not None:
            if record.label >= len(names):
                raise BadRecord(f"{path}: no column {record.label}, there are {len(names)}; correct `record.label`")
            types[names[record.label]] = pa.string()
    return pacsv.ConvertOptions(column_types=types)


def _block(batch: pa.RecordBatch, record: Schema, path: Path, first_row: int) -> Block:
    names = list(batch.schema.names)
    columns = list(batch.columns)
    labels = None
    if record.label is not None:
        column = record.label if isinstance(record.label, int) else _position(names, record.label, path)
        labels = columns.pop(column).cast(pa.string()).to_numpy(zero_copy_only=False).astype(np.str_)
        names.pop(column)
    if len(names) != record.values:
        raise BadRecord(
            f"{path}, row {first_row}: {len(names)} values where the schema says {record.values};"
            " correct `record.shape` or the file"
        )
    values = np.empty((batch.num_rows, len(names)), np.float64)
    for index, (name, column_values) in enumerate(zip(names, columns, strict=True)):  # two may have one name
        if not (pa.types.is_integer(column_values.type) or pa.types.is_floating(column_values.type)):
            raise BadRecord(f"{path}, row {first_row} or later: column {name!r} is not numeric; correct the file")
        values[:, index] = column_values.to_numpy(zero_copy_only=False)
    return Block(first_row, checked(values, record, path, first_row).reshape(-1, *record.shape), labels)


def _position(names: list[str], label: str, path: Path) -> int:
    if label not in names:
        raise BadRecord(f"{path}: no column is called {label!r}; correct `record.label` or the header")
    return names.index(label)


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a column."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, values) and perhaps a label column, and its schema."""
    rows = [",".join([*map(str, row), *([] if labels is None else [labels[i]])]) for i, row in enumerate(x.tolist())]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    label = None if labels is None else x.shape[1]
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=label)
