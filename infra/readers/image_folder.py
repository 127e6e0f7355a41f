"""A folder of pictures (PNG, JPEG, TIFF, DICOM), or a .zip or .tar of one: a file a record.

The row of a record is its file's place among the sorted names; hidden files and those with another suffix
are left out. With a label in the schema (any name), the label of a picture is the folder that it lies in.
Nothing is ever unpacked to the disk; an archive with absolute names, `..`, links or one name twice is
refused. A picture that cannot be decoded, or has another size, is a bad record.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, Holds, _archives, _pictures, _rows, listing, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = ("/", ".zip", ".tar")
HOLDS = Holds(dtypes=("uint8", "uint16"), shape=(3, 5), rows=500)

Open = Callable[[], IO[bytes]]


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The pictures; see the family's contract.

    Raises:
        BadRecord: neither folder nor archive, no picture in it, or one without a folder that could be its label.
    """
    with whole(path, "a folder of pictures or a .zip or .tar of one"), ExitStack() as files:
        found = _members(path, files)
        names = sorted(name for name in found if _is_picture(name))
        if not names:
            raise BadRecord(f"{path}: no picture in it ({', '.join(_pictures.SUFFIXES)}); correct `uri`")
        if record.label is not None:
            for name in names:
                if "/" not in name:
                    raise BadRecord(f"{path}: {name} lies in no class folder; move it, or leave `record.label` out")
        yield from _rows.blocks(_records(names, found, record), record, path, block_rows)


def _is_picture(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(_pictures.SUFFIXES)


def _records(names: list[str], found: dict[str, Open], record: Schema) -> Iterator[_rows.Row]:
    for name in names:
        label = None if record.label is None else name.split("/")[-2]
        try:
            with found[name]() as file:
                data = file.read(_pictures.longest(record) + 1)
            yield _pictures.decode(data, record), label
        except (_pictures.NoPicture, zipfile.BadZipFile, zlib.error, EOFError) as error:
            yield f"{name}: {error}", label


def _members(path: Path, files: ExitStack) -> dict[str, Open]:
    """The files of a folder or an archive by name, each opened when it is asked for."""
    if path.is_dir():
        return {name: _from_folder(path / name) for name in listing(path)}
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    pairs: list[tuple[str, Open]]
    if is_zip:
        zipped = files.enter_context(_archives.zipped(path))
        pairs = [(info.filename, _from_zip(zipped, info)) for info in zipped.infolist() if not info.is_dir()]
    else:
        tarred = files.enter_context(tarfile.TarFile(path))
        pairs = []
        for member in tarred:
            if not (member.isfile() or member.isdir()):
                raise BadRecord(f"{path}: member {member.name!r} is a link or a device; pack plain files only")
            if member.isfile():
                pairs.append((member.name, _from_tar(tarred, member)))
        _archives.require_end(path, tarred)
    for name, _ in pairs:
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts or "\0" in name:
            raise BadRecord(f"{path}: member {name!r} points out of the archive; pack it anew with relative names")
    plain = [(PurePosixPath(name).as_posix(), open_it) for name, open_it in pairs]
    if len(dict(plain)) < len(plain):
        raise BadRecord(f"{path}: two members have one name; pack it anew")
    return dict(plain)


def _from_folder(path: Path) -> Open:
    return lambda: path.open("rb")


def _from_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Open:
    return lambda: archive.open(info)


def _from_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Open:
    return lambda: cast("IO[bytes]", archive.extractfile(member))


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: the label of a picture is its folder."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A folder with `x` (n, height, width) as PNG and perhaps their labels, and its schema."""
    from PIL import Image

    for row, values in enumerate(x):
        folder = path / f"{row:06d}" / str(labels[row]) if labels is not None else path
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / f"{row:06d}.png")
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "folder")
