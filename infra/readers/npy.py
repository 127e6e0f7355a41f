"""NumPy's `.npy`: one array of records, read a block at a time; labels in `<stem>.labels.npy` beside it.

Pickled arrays are refused: loading one would run code from the file.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

import numpy as np

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, _arrays, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".npy",)


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The array's records; see the family's contract.

    Raises:
        BadRecord: not an `.npy` file, a wrong shape, or labels of another length.
    """
    with ExitStack() as files:
        stream, layout = _opened(path, files)
        if layout.fortran:
            layout, values = _arrays.Layout(layout.shape, layout.dtype), _turned(path, stream, layout, block_rows)
        else:
            values = _arrays.streamed(stream, layout, block_rows)
        _arrays.require_records(layout, record, path)
        labels = None
        if record.label is not None:
            beside = path.with_suffix(".labels.npy")
            stream, named = _opened(beside, files)
            _arrays.require_labels(named, layout.shape[0], beside)
            labels = _arrays.streamed(stream, named, block_rows)
        with whole(path, "an .npy file"):
            yield from _arrays.blocks(values, labels, record, path)


def _opened(path: Path, files: ExitStack) -> tuple[IO[bytes], _arrays.Layout]:
    """The file after its header; a size that the file does not have is refused before anything is read."""
    with whole(path, "an .npy file"):
        stream = files.enter_context(path.open("rb"))
        layout = _arrays.npy_header(stream)
        there = path.stat().st_size - stream.tell()
        if layout.bytes != there:
            raise BadRecord(f"{path}: its header says {layout.bytes} bytes of values, there are {there}; save it anew")
    return stream, layout


def _turned(path: Path, stream: IO[bytes], layout: _arrays.Layout, block_rows: int) -> Iterator[NDArray[np.generic]]:
    """Records of an array in Fortran's order, through a memory map."""
    array = np.memmap(path, layout.dtype, "r", stream.tell(), layout.shape, "F")
    for first in range(0, len(array), block_rows):
        yield np.ascontiguousarray(array[first : first + block_rows])


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """The file of the labels, if the schema says that there are any."""
    return () if record.label is None else (uri.removesuffix(".npy") + ".labels.npy",)


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, ...) and perhaps its labels, and its schema."""
    with path.open("wb") as file:
        np.save(file, x)
    if labels is not None:
        with path.with_suffix(".labels.npy").open("wb") as file:
            np.save(file, labels)
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "labels")
