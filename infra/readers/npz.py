"""NumPy's `.npz`: arrays in a zip file, streamed out of it; pickled ones are refused.

`record.columns` names the array with the records, `record.label` the one with their labels (one label a
record). What is left out follows from the names:

- MedMNIST's layout, `train_images`, `train_labels`, `val_images`, ..., `test_labels`: with `label: labels`
  (or none) all of it, in the order train, val, test; with `label: test_labels` that part alone.
- any other: the only array that is not the labels.
"""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

import numpy as np

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, _archives, _arrays, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".npz",)
PARTS = ("train", "val", "test")


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The arrays' records, one array after the other; see the family's contract.

    Raises:
        BadRecord: not an `.npz` file, no such array, a wrong shape, or labels of another length.
    """
    with whole(path, "an .npz file"), _archives.zipped(path) as archive:
        first_row = 0
        for name, label in pairs([info.filename for info in archive.infolist()], record, path):
            with ExitStack() as members:
                stream, layout = _opened(archive, name, path, members)
                _arrays.require_records(layout, record, path, f", array {name}")
                labels = None
                if label is not None:
                    beside, named = _opened(archive, label, path, members)
                    _arrays.require_labels(named, layout.shape[0], path, f", array {label}")
                    labels = _arrays.streamed(beside, named, block_rows)
                values = _arrays.streamed(stream, layout, block_rows)
                yield from _arrays.blocks(values, labels, record, path, first_row)
                first_row += layout.shape[0]


def pairs(members: list[str], record: Schema, path: Path) -> list[tuple[str, str | None]]:
    """Which arrays are read: the names of records and labels, in order.

    Args:
        members: names of the zip file's members.
        record: may name them.
        path: for the error.
    """
    names = [member.removesuffix(".npy") for member in members if member.endswith(".npy")]
    if len(set(names)) < len(names):
        raise BadRecord(f"{path}: two arrays have one name; save it anew")
    label = None if record.label is None else str(record.label)
    if record.columns is not None:
        found = [(record.columns[0], label)] if len(record.columns) == 1 else []
    elif parts := [part for part in PARTS if f"{part}_images" in names and label in {None, "labels", f"{part}_labels"}]:
        found = [(f"{part}_images", None if label is None else f"{part}_labels") for part in parts]
    else:
        found = [(name, label) for name in names if name != label]
    wanted = {name for pair in found for name in pair if name is not None}
    if missing := sorted(wanted - set(names)):
        raise BadRecord(f"{path}: no array is called {missing[0]!r}, there are {', '.join(names) or 'none'}")
    if not found or (len(found) > 1 and not found[0][0].endswith("_images")):
        raise BadRecord(f"{path}: name one array with the records as `record.columns`: {', '.join(names) or 'none'}")
    return found


def _opened(archive: zipfile.ZipFile, name: str, path: Path, members: ExitStack) -> tuple[IO[bytes], _arrays.Layout]:
    """The member after its header; a size that is not the archive's is refused before anything is read."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadRecord(f"{path}, array {name}: compressed as NumPy does not; save it by numpy.savez_compressed")
    stream = members.enter_context(archive.open(info))
    layout = _arrays.npy_header(stream)
    there = info.file_size - stream.tell()
    if layout.bytes != there:
        raise BadRecord(f"{path}, array {name}: its header says {layout.bytes} bytes, there are {there}; save it anew")
    return stream, layout


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are an array of the same file."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, ...) and perhaps its labels, and its schema."""
    arrays = {"x": x} if labels is None else {"x": x, "y": labels}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "y")
