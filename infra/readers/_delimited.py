"""Delimited text: one record a line, one of its columns a label. Shared by CSV and TSV.

Compressed by its suffix (.gz, .bz2, .zst). With a label or `record.columns` given by name the first line is
a header; with a label given by number, or none, there is no header. Unless `record.columns` says which, all
columns but the label, in file order, are the record's values.

Cells are read as text and turned into numbers by Arrow, column by column. That costs no more than letting
Arrow guess, and lets a bad cell be one bad record. A line must fit into a block, so none exhausts the memory.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import whole
from infra.readers._records import SHOWN_TEXT, Block, Rejected, as_json, checked, with_labels, with_rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LONGEST_LINE = 256 << 20
MANY_BAD_LINES = 1_000_000  # in a row: they are kept until the next good one


def read(path: Path, record: Schema, block_rows: int, delimiter: str) -> Iterator[Block]:
    """The file's records; see the family's contract."""
    return (piece() for piece in pieces(path, record, block_rows, delimiter))


def pieces(path: Path, record: Schema, block_rows: int, delimiter: str) -> Iterator[Callable[[], Block]]:
    """The same, split into lines and cells one after another; what makes numbers of the cells runs in any thread.

    Raises:
        BadRecord: not such text, no such column, or a header of another width than the schema.
    """
    skipped: dict[int, Rejected] = {}
    has_header = isinstance(record.label, str) or record.columns is not None

    def skip(line: pacsv.InvalidRow) -> str:
        row = line.number - 1 - has_header
        reason = f"{line.actual_columns} columns where there should be {line.expected_columns}"
        skipped[row] = Rejected(row, reason, as_json(line.text[:SHOWN_TEXT]))
        return "skip" if len(skipped) < MANY_BAD_LINES else "error"

    size = min(max(1 << 16, block_rows * record.values * 4), LONGEST_LINE)
    parse = pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
    with whole(path, "delimited text"):
        with pa.input_stream(str(path), compression="detect") as stream:
            if b"\0" in stream.read(1 << 16):
                raise ValueError("it has bytes that no text has")
        if has_header:
            quiet = pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=lambda line: "skip")
            options = pacsv.ReadOptions(block_size=size)
            with (
                pa.input_stream(str(path), compression="detect") as stream,
                pacsv.open_csv(stream, options, quiet) as batches,
            ):
                names = list(batches.schema.names)
        else:
            names = [f"column {column}" for column in range(record.values + (record.label is not None))]
        wanted, label = _chosen(names, record, path)
        # without threads Arrow says which line is bad; names by position, because two columns may have one name
        numbered = [str(column) for column in range(len(names))]
        options = pacsv.ReadOptions(
            use_threads=False, block_size=size, column_names=numbered, skip_rows=int(has_header)
        )
        convert = pacsv.ConvertOptions(
            column_types=dict.fromkeys(numbered, pa.string()),
            include_columns=[*map(str, wanted), *([] if label is None else [str(label)])],
            check_utf8=False,
        )
        row = 0
        with (
            pa.input_stream(str(path), compression="detect") as stream,
            pacsv.open_csv(stream, options, parse, convert) as batches,
        ):
            for batch in batches:
                done = 0
                while done < batch.num_rows:
                    bad = _bad_lines(skipped, row, record, block_rows)
                    yield from (partial(_as_it_is, block) for block in bad)
                    row += sum(len(block.x) for block in bad)
                    count = min(block_rows, batch.num_rows - done, min(skipped, default=row + block_rows) - row)
                    part = batch.slice(done, count)
                    yield partial(_converted, part, [names[column] for column in wanted], record, path, row)
                    row, done = row + count, done + count
        yield from (partial(_as_it_is, block) for block in _bad_lines(skipped, row, record, block_rows))


def _converted(batch: pa.RecordBatch, names: list[str], record: Schema, path: Path, first_row: int) -> Block:
    with whole(path, "delimited text"):
        return _block(batch, names, record, path, first_row)


def _as_it_is(block: Block) -> Block:
    return block


def _chosen(names: list[str], record: Schema, path: Path) -> tuple[list[int], int | None]:
    """The positions of the columns that hold the values, and of the label's."""

    def position(name: str, key: str) -> int:
        if name not in names:
            raise BadRecord(f"{path}: no column is called {name!r}; correct `record.{key}` or the header")
        return names.index(name)

    label = position(record.label, "label") if isinstance(record.label, str) else record.label
    if label is not None and not 0 <= label < len(names):
        raise BadRecord(f"{path}: no column {label}, there are {len(names)}; correct `record.label`")
    if record.columns is not None:
        wanted = [position(name, "columns") for name in record.columns]
    else:
        wanted = [column for column in range(len(names)) if column != label]
    if len(wanted) != record.values:
        raise BadRecord(
            f"{path}, row 0: {len(wanted)} values where the schema says {record.values};"
            " correct `record.shape` or the file"
        )
    return wanted, label


def _bad_lines(skipped: dict[int, Rejected], row: int, record: Schema, block_rows: int) -> list[Block]:
    """Blocks of the lines from `row` on that Arrow skipped; forgets them."""
    blocks = []
    while row in skipped:
        bad: list[Rejected] = []
        while row in skipped and len(bad) < block_rows:
            bad.append(skipped.pop(row))
            row += 1
        labels = None if record.label is None else np.full(len(bad), "", np.str_)
        blocks.append(Block(row - len(bad), np.zeros((len(bad), *record.shape), record.dtype), labels, tuple(bad)))
    return blocks


def _block(batch: pa.RecordBatch, names: list[str], record: Schema, path: Path, first_row: int) -> Block:
    bad: dict[int, Rejected] = {}
    try:  # all cells at once, as it nearly always is: a call of Arrow costs as much as a hundred cells
        values = _numbers(pa.concat_arrays(batch.columns[: len(names)])).reshape(len(names), -1).T
    except pa.ArrowInvalid:
        values = _good_numbers(batch, names, first_row, bad)
    block = checked(values, record, path, first_row)
    block = replace(block, x=np.ascontiguousarray(block.x))
    if record.label is not None:
        texts = batch.column(batch.num_columns - 1)
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid:
            listed = [text.as_buffer().to_pybytes() for text in texts]
            texts = pa.array([text.decode(errors="replace") for text in listed], pa.string())
            for row, text in enumerate(listed):
                if "\ufffd" in text.decode(errors="replace"):
                    bad[first_row + row] = Rejected(first_row + row, "its label is not UTF-8", as_json(repr(text)))
        block = with_labels(block, texts)
    return with_rejected(block, bad)


def _good_numbers(
    batch: pa.RecordBatch, names: list[str], first_row: int, bad: dict[int, Rejected]
) -> NDArray[np.float64]:
    """The values, column by column; rows with a cell that is no number are zeros, and named in `bad`."""
    values = np.empty((batch.num_rows, len(names)), np.float64)  # which holds every dtype of a schema
    good = np.ones(batch.num_rows, bool)
    for column, name in enumerate(names):
        cells = batch.column(column)
        try:
            values[:, column] = _numbers(cells)
        except pa.ArrowInvalid:
            rows = np.flatnonzero(good)
            found = _no_numbers(cells.take(pa.array(rows)), values[:, column], rows)
            for row, text in found.items():
                shown = as_json(text[: SHOWN_TEXT // 2].decode(errors="replace"))
                reason = f"value {shown} in {name!r} is not a number" if text else f"no value in {name!r}"
                line = [cell.as_buffer().to_pybytes()[:20].decode(errors="replace") for cell in _row(batch, row)]
                bad[first_row + row] = Rejected(first_row + row, reason, as_json(line))
            good[list(found)] = False
    values[~good] = 0
    return values


def _row(batch: pa.RecordBatch, row: int) -> list[Any]:
    return [batch.column(column)[row] for column in range(min(batch.num_columns, 16))]


def _numbers(cells: pa.Array) -> NDArray[np.float64]:
    """The cells as numbers (ArrowInvalid if one is none); spaces around a number do not count."""
    try:
        numbers = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        numbers = pc.cast(pc.ascii_trim_whitespace(cells), pa.float64())
    found: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
    return found


def _no_numbers(cells: pa.Array, into: NDArray[np.float64], rows: NDArray[np.intp]) -> dict[int, bytes]:
    """The cells that are no numbers, found by halving, by the row of each; the others go into their rows."""
    try:
        into[rows] = _numbers(cells)
    except pa.ArrowInvalid:
        if len(rows) == 1:
            return {int(rows[0]): cells[0].as_buffer().to_pybytes()}
        half = len(rows) // 2
        left = _no_numbers(cells[:half], into, rows[:half])
        return left | _no_numbers(cells[half:], into, rows[half:])
    return {}


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None, delimiter: str) -> Schema:
    """A file with `x` (n, values) and perhaps a label column, and its schema."""
    lines = [
        delimiter.join([*map(str, row), *([] if labels is None else [labels[i]])]) for i, row in enumerate(x.tolist())
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else x.shape[1])
