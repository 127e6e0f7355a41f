"""IDX, MNIST's own format: one array of records, gzipped or not; labels in a second file beside it.

The labels' file is named as MNIST's are: `images` becomes `labels` and `idx3` becomes `idx1`; where the
name has no `images`, `.labels` is added to it. Format: https://yann.lecun.org/exdb/mnist/ (two zero bytes, a
byte for the dtype, one for the number of axes, an axis as four bytes, the values; all big-endian).
"""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, Holds, _arrays, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 8
SUFFIXES = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
HOLDS = Holds(dtypes=("uint8", "int8", "int16", "int32", "float32", "float64"), text_labels=False)


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The array's records; see the family's contract.

    Raises:
        BadRecord: not an IDX file, a wrong shape, or labels of another length.
    """
    with ExitStack() as files:
        stream, layout = _opened(path, files)
        _arrays.require_records(layout, record, path)
        labels = None
        if record.label is not None:
            beside = Path(_labels_of(str(path)))
            other, named = _opened(beside, files)
            _arrays.require_labels(named, layout.shape[0], beside)
            labels = _arrays.streamed(other, named, block_rows)
        with whole(path, "an IDX file"):
            yield from _arrays.blocks(_arrays.streamed(stream, layout, block_rows), labels, record, path)


def _opened(path: Path, files: ExitStack) -> tuple[IO[bytes], _arrays.Layout]:
    """The file after its header; of a plain one the size is checked before anything is read."""
    with whole(path, "an IDX file"):
        stream: IO[bytes] = files.enter_context(path.open("rb"))
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if packed:
            stream = cast("IO[bytes]", files.enter_context(gzip.GzipFile(fileobj=stream)))
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES or not 0 < head[3] <= MOST_AXES:
            raise ValueError("no such header")
        sides = stream.read(4 * head[3])
        if len(sides) < 4 * head[3]:
            raise ValueError("its header is cut")
        layout = _arrays.Layout(tuple(np.frombuffer(sides, ">u4").tolist()), np.dtype(DTYPES[head[2]]))
        there = path.stat().st_size - 4 - len(sides)
        if not packed and layout.bytes != there:
            raise BadRecord(f"{path}: its header says {layout.bytes} bytes of values, there are {there}; copy it anew")
    return stream, layout


def _labels_of(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    if "images" in file:
        return folder + slash + file.replace("images", "labels").replace("idx3", "idx1")
    stem = file.removesuffix(".gz")
    return f"{folder}{slash}{stem}.labels{file.removeprefix(stem)}"


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """The file of the labels, if the schema says that there are any."""
    return () if record.label is None else (_labels_of(uri),)


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A gzipped file with `x` (n, ...) and perhaps its labels, which IDX holds as numbers, and its schema."""
    path.write_bytes(gzip.compress(packed(x), mtime=0))
    if labels is not None:
        Path(_labels_of(str(path))).write_bytes(gzip.compress(packed(labels.astype(np.uint8)), mtime=0))
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "labels")


def packed(x: NDArray[np.generic]) -> bytes:
    """The array as an IDX file."""
    code = {np.dtype(kind).newbyteorder("="): code for code, kind in DTYPES.items()}[x.dtype.newbyteorder("=")]
    return bytes([0, 0, code, x.ndim]) + np.array(x.shape, ">u4").tobytes() + x.astype(DTYPES[code]).tobytes()
