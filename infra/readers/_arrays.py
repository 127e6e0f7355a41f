"""Arrays of records from a stream of bytes, a block at a time, and NumPy's header; shared by NPY, NPZ and IDX.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import tokenize
from dataclasses import dataclass
from math import prod
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_catalog.errors import BadRecord
from infra.readers._records import LONGEST_LABEL, checked, with_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Schema
    from infra.readers._records import Block

LONGEST_HEADER = 10_000  # bytes, as NumPy's own limit, which it checks only after reading


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool = False

    @property
    def bytes(self) -> int:
        """Of all its values."""
        return prod(self.shape) * self.dtype.itemsize


def npy_header(stream: IO[bytes]) -> Layout:
    """Read the header of an `.npy` file; the stream is left at the values.

    Raises:
        ValueError: it is none, is absurdly long, or says that objects are pickled.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    width = 2 if version == (1, 0) else 4
    head = stream.read(width)
    if len(head) < width or int.from_bytes(head, "little") > LONGEST_HEADER:
        raise ValueError("its header is cut or too long")
    rest = io.BytesIO(head + stream.read(int.from_bytes(head, "little")))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read(rest)
    except tokenize.TokenError as error:
        raise ValueError("its header is no Python literal") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which would run code when loaded; save an array of numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"it says a shape of {shape}")
    return Layout(shape, dtype, fortran and len(shape) > 1)


def streamed(stream: IO[bytes], layout: Layout, block_rows: int) -> Iterator[NDArray[np.generic]]:
    """The rows after a header, in blocks; a row is `layout.shape[1:]`.

    Raises:
        ValueError: the stream ends before the last row, or goes on after it.
    """
    row = Layout(layout.shape[1:], layout.dtype)
    for first in range(0, layout.shape[0], block_rows):
        rows = min(block_rows, layout.shape[0] - first)
        data = _exactly(stream, rows * row.bytes)
        if len(data) < rows * row.bytes:
            raise ValueError(f"it ends in row {first + len(data) // max(1, row.bytes)} of {layout.shape[0]}")
        yield np.frombuffer(data, layout.dtype).reshape(rows, *layout.shape[1:])
    if stream.read(1):  # the last read of an archive's member also compares its checksum
        raise ValueError(f"it goes on after its {layout.shape[0]} rows")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes, or all there are; never more memory than what really comes."""
    parts: list[bytes] = []
    while count and (part := stream.read(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def require_records(layout: Layout, record: Schema, path: Path, what: str = "") -> None:
    """Raise `BadRecord` unless the array is one of records of the schema's shape (one value may lack its axis)."""
    name = f"{path}{what}"
    if not layout.shape:
        raise BadRecord(f"{name}: holds no array of records but one value; save an array")
    inner = layout.shape[1:]
    if inner != record.shape and not (record.shape == (1,) and inner == ()):
        raise BadRecord(f"{name}: records of shape {inner} where the schema says {record.shape}; correct one")
    if layout.fortran:
        raise BadRecord(f"{name}: is in Fortran's order; save numpy.ascontiguousarray of it to have records in a row")


def require_labels(layout: Layout, rows: int, path: Path, what: str = "") -> None:
    """Raise `BadRecord` unless the array is one label a record: (n,) or (n, 1) of text or numbers."""
    name = f"{path}{what}"
    if layout.shape not in {(rows,), (rows, 1)}:
        raise BadRecord(f"{name}: {layout.shape} labels for {rows} records; correct one")
    if layout.dtype.kind not in "biufUS" or layout.dtype.itemsize > 4 * LONGEST_LABEL:
        raise BadRecord(f"{name}: labels of {layout.dtype}; save them as short text or as numbers")


def blocks(
    values: Iterable[NDArray[np.generic]],
    labels: Iterable[NDArray[np.generic]] | None,
    record: Schema,
    path: Path,
    first_row: int = 0,
) -> Iterator[Block]:
    """Blocks of records and their labels, which come in the same steps."""
    ends = iter(() if labels is None else labels)
    for x in values:
        block = checked(x, record, path, first_row)
        if labels is not None:
            named = next(ends).reshape(len(x))
            texts = named.astype(np.str_)
            block = with_labels(block, pa.array(texts.tolist(), pa.string()))
        yield block
        first_row += len(x)
    for _ in ends:  # reach the end, where checksums are compared
        raise BadRecord(f"{path}: more labels than records; correct one")
