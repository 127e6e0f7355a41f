"""Readers: a file of one format to blocks of records. A reader is a module here with one function.

The contract: `read(path, record, block_rows)` yields `Block`s in file order, in memory bounded by
`block_rows`; every block holds `record.values` values a row as `record.dtype`. A record that does not fit
the schema (a value that is missing, not a number, outside `[record.low, record.high]` or not of the dtype;
a wrong number of values; a picture that cannot be decoded) stays in its block as zeros and is named in
`Block.rejected`, so that rows keep their numbers; whether it stops the run is decided by the caller, see
`strict`. A file that is not of the format raises `BadRecord`. Reading twice gives the same. A label that
is empty is no label.

A reader may also offer:

- `companions(uri, record)`: the other files that belong to one, for formats that keep labels apart;
- `pieces(path, record, block_rows)`: what `read` gives, each block as a function without arguments that makes it, for
  formats whose numbers cost more to make than to find; any number of them run at a time, in any order;
- `SUFFIXES`: how the names of its files end, for datasets that leave `format` out;
- `HOLDS`: what its format can hold, where that is less than everything, for the conformance suite.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from data_catalog.errors import BadRecord, CatalogError
from infra.readers._records import Block, Rejected, accepted, checked, strict
from infra.registry import Registry
from infra.storage import file_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from data_catalog.nouns import Schema

__all__ = [
    "READERS", "Block", "Holds", "Reader", "Rejected", "accepted", "checked", "choose", "content_digest", "listing",
    "strict", "whole",
]  # fmt: skip

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Holds:
    """What examples a format can hold: dtypes of a schema, the shape of a record, and how many are not too many."""

    dtypes: tuple[str, ...] = DTYPES
    shape: tuple[int, ...] = (5,)
    rows: int = 50_000
    text_labels: bool = True


class Reader(Protocol):
    """What a reader module offers."""

    def read(self, path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
        """The file's records in blocks of at most about `block_rows`."""
        ...

    def companions(self, uri: str, record: Schema) -> tuple[str, ...]:
        """The files beside `uri` that are read with it, as paths or URLs."""
        ...

    def write_example(self, path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
        """Write a small file of this format and return its schema: the conformance suite reads it back."""
        ...


READERS: Registry[Reader] = Registry(__name__, "format")


def choose(name: str, uri: str, where: str = "") -> Reader:
    """The reader of a format, or of a source's suffix where the format is left out.

    Args:
        name: the format; empty: not said.
        uri: of the source; a folder ends with `/`, or is one on this machine.
        where: which file and key named it, for the error.

    Raises:
        UnknownName: there is no such format.
        CatalogError: no format is said, and no reader has the suffix.
    """
    if name:
        return READERS.get(name, where)
    plain = uri.lower() + (
        "/" if not uri.endswith("/") and "://" not in uri and Path(uri).expanduser().is_dir() else ""
    )
    for format_name in READERS.names():
        reader = READERS.get(format_name)
        if plain.endswith(tuple(getattr(reader, "SUFFIXES", ())) or ("\0",)):
            return reader
    raise CatalogError(f"no format has the suffix of {uri}; name one of {', '.join(READERS.names())} as `format`")


def listing(folder: Path) -> list[str]:
    """The names of a folder's files relative to it, `/` between parts, sorted; hidden ones are left out."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(parent).relative_to(folder)
        names += [(here / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def content_digest(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's sorted relative names and the digests of its files.

    Raises:
        BadInput: it cannot be read.
    """
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for name in listing(path):
        digest.update(f"{file_digest(path / name)} {name}\n".encode())
    return digest.hexdigest()


@contextmanager
def whole(path: Path, what: str) -> Iterator[None]:
    """Turn what libraries say of a damaged file into one `BadRecord` that names it.

    Args:
        path: the file.
        what: the format, with its article.
    """
    try:
        yield
    except (
        pa.ArrowException, OSError, ValueError, TypeError, KeyError, EOFError, OverflowError, SyntaxError, MemoryError,
        RecursionError, RuntimeError, zlib.error, struct.error, zipfile.BadZipFile, tarfile.TarError,
    ) as error:  # fmt: skip
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadRecord(f"{path}: not {what} that can be read ({why}); correct the file") from error
