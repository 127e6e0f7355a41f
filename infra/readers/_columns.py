"""Arrow record batches to blocks; shared by Parquet and Arrow IPC.

A column may hold one number a row, or many: a list, a list of lists, a fixed-shape tensor. A row's values
are those of its columns, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog.errors import BadRecord
from infra.readers._records import SHOWN_VALUES, Rejected, as_json, checked, with_labels, with_rejected

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema
    from infra.readers._records import Block


def chosen(schema: pa.Schema, record: Schema, path: Path) -> list[str]:
    """The names of the columns with the values, then the label's, if there is one.

    Raises:
        BadRecord: a column that the schema names is not there, twice there, or holds no numbers.
    """
    names = list(schema.names)
    label = None
    if record.label is not None:
        label = record.label if isinstance(record.label, str) else _numbered(names, record.label, path)
    wanted = list(record.columns) if record.columns is not None else [name for name in names if name != label]
    if not wanted:
        raise BadRecord(f"{path}: no column with values; correct `record` or the file")
    for name in [*wanted, *([] if label is None else [label])]:
        if names.count(name) != 1:
            raise BadRecord(f"{path}: {names.count(name)} columns are called {name!r}; correct `record` or the file")
    for name in wanted:
        kind = schema.field(name).type
        while _is_list(kind) or isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
            kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise BadRecord(f"{path}: column {name!r} holds {kind}, no numbers; name the columns as `record.columns`")
    return [*wanted, *([] if label is None else [label])]


def _numbered(names: list[str], column: int, path: Path) -> str:
    if not 0 <= column < len(names):
        raise BadRecord(f"{path}: no column {column}, there are {len(names)}; correct `record.label`")
    return names[column]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def block(batch: pa.RecordBatch, record: Schema, path: Path, first_row: int) -> Block:
    """The records of a batch whose columns are those that `chosen` named, in that order.

    Args:
        batch: (n,) rows; is validated, because a damaged file may say of itself what is not so.
        record: what the rows should be.
        path: for the error.
        first_row: number of the first row in its file.

    Raises:
        BadRecord: no row can have as many values as the schema says.
        pyarrow.ArrowInvalid: the batch contradicts itself.
    """
    batch.validate(full=True)
    columns = batch.columns[: batch.num_columns - (record.label is not None)]
    flat = [_flat(column) for column in columns]
    widths = [_width(column.type) for column in columns]
    open_ended = [i for i, width in enumerate(widths) if width is None]
    known = sum(width for width in widths if width is not None)
    if len(open_ended) > 1 or known > record.values or (not open_ended and known != record.values):
        raise BadRecord(
            f"{path}, row {first_row}: {known} values{' and lists' if open_ended else ''} where the schema says"
            f" {record.values}; correct `record.shape`, or name the columns as `record.columns`"
        )
    bad: dict[int, Rejected] = {}
    parts: list[NDArray[np.generic]] = []
    for (values, lengths), width in zip(flat, widths, strict=True):
        want = record.values - known if width is None else width
        good = lengths == want
        part = values
        if not good.all():
            part = np.zeros((len(lengths), want), values.dtype)
            part[good] = values[np.repeat(good, lengths)].reshape(-1, want)
            ends = np.cumsum(lengths)
            for row in np.flatnonzero(~good).tolist():
                shown = as_json(values[ends[row] - lengths[row] : ends[row]][:SHOWN_VALUES])
                reason = f"{lengths[row]} values where the schema says {want}" if lengths[row] else "a value is missing"
                bad[first_row + row] = Rejected(first_row + row, reason, shown)
        parts.append(part.reshape(batch.num_rows, want))
    merged = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    made = checked(merged, record, path, first_row)
    if record.label is not None:
        made = with_labels(made, pc.cast(batch.column(batch.num_columns - 1), pa.string()))
    return with_rejected(made, bad)


def _width(kind: pa.DataType) -> int | None:
    """Values in every row of such a column; None: it may differ."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        inner = _width(kind.value_type)
        return None if inner is None else int(kind.list_size) * inner
    return None if _is_list(kind) else 1


def _flat(column: pa.Array) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """All values of a column, and how many of them each row has; a null is NaN, a null list has none."""
    if isinstance(column.type, pa.BaseExtensionType):
        return _flat(column.storage)
    if pa.types.is_dictionary(column.type):
        return _flat(column.dictionary_decode())
    if not _is_list(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        return column.to_numpy(zero_copy_only=False), np.ones(len(column), np.int64)
    values, inner = _flat(column.flatten())
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends, total = np.cumsum(counts), np.concatenate([[0], np.cumsum(inner)])
    lengths: NDArray[np.int64] = total[ends] - total[ends - counts]
    return values, lengths
