"""JSON Lines, plain or compressed by its suffix: an object or an array of numbers a line (https://jsonlines.org).

The values of an object are those of the keys in `record.columns`, or of all keys but the label's, in the
order of the first line; each may be a number or nested arrays of numbers.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, _rows, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = tuple(stem + end for stem in (".jsonl", ".ndjson") for end in ("", ".gz", ".bz2", ".zst"))
LONGEST_NUMBER = 64  # characters; with the brackets and spaces around it


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records; see the family's contract.

    Raises:
        BadRecord: its first line is no JSON, or has no such key.
    """
    limit = max(1 << 20, LONGEST_NUMBER * record.values)
    with whole(path, "JSON Lines"), pa.input_stream(str(path), compression="detect") as stream:
        yield from _rows.blocks(_records(_lines(stream, limit), record, path), record, path, block_rows)


def _lines(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """The lines that are not blank; one that is longer than the limit is an error before it is read whole."""
    rest, size = b"", 0
    while part := stream.read(1 << 20):
        *lines, rest = (rest + bytes(part)).split(b"\n")
        size += len(part)
        yield from (line for line in lines if line.strip())
        if len(rest) > limit:
            raise ValueError(f"a line of more than {limit} bytes")
    if rest.strip():
        yield rest
    if not size:
        raise EOFError("it is empty")


def _records(lines: Iterator[bytes], record: Schema, path: Path) -> Iterator[_rows.Row]:
    columns: tuple[str, ...] | None = record.columns
    label = None if record.label is None else str(record.label)
    for row, line in enumerate(lines):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            if row == 0:
                raise
            yield f"no JSON ({str(error)[:80]})", None
            continue
        if isinstance(found, dict):
            if columns is None:
                columns = tuple(key for key in found if key != label)
            if row == 0 and (missing := sorted({*columns, *([] if label is None else [label])} - set(found))):
                raise BadRecord(f"{path}, row 0: no key is called {missing[0]!r}; correct `record` or the file")
        elif row == 0 and (label is not None or record.columns is not None or not isinstance(found, list)):
            raise BadRecord(f"{path}, row 0: no object with keys; correct `record` or the file")
        if (b"true" in line or b"false" in line) and _has_truth(found, columns):
            yield "true or false where a number should be", _label(found, label)
        else:
            yield _values(found, columns), _label(found, label)


def _has_truth(found: Any, columns: tuple[str, ...] | None) -> bool:
    """Whether there is true or false among the values, which NumPy takes for 1 and 0."""
    if isinstance(found, dict):
        return any(_has_truth(found.get(key), None) for key in columns or ())
    return any(_has_truth(item, None) for item in found) if isinstance(found, list) else isinstance(found, bool)


def _label(found: Any, label: str | None) -> str | None:
    text = found.get(label) if label is not None and isinstance(found, dict) else None
    return None if text is None else text if isinstance(text, str) else json.dumps(text)


def _values(found: Any, columns: tuple[str, ...] | None) -> NDArray[np.generic] | str:
    """The numbers of a line, or why there are none."""
    if (columns is None) != isinstance(found, list):
        return f"{type(found).__name__} where {'an array' if columns is None else 'an object'} should be"
    try:
        parts = [np.asarray(found)] if columns is None else [np.asarray(found[key]) for key in columns]
    except KeyError as error:
        return f"no value in {error}"
    except (ValueError, OverflowError, RecursionError):
        return "arrays of different lengths"
    for name, part in zip(columns or [""], parts, strict=True):
        if part.dtype.kind not in "iuf":
            return f"a value in {name!r} is not a number" if name else "a value is not a number"
    return parts[0] if len(parts) == 1 else np.concatenate([part.ravel() for part in parts])


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a key."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, ...) and perhaps labels, and its schema."""
    with path.open("w", encoding="utf-8") as file:
        for row, values in enumerate(x.tolist()):
            file.write(json.dumps({"x": values} | ({} if labels is None else {"label": str(labels[row])})) + "\n")
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "label")
