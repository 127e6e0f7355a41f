"""Zip and tar files as they are trusted here: as a whole, or not at all."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def zipped(path: Path) -> zipfile.ZipFile:
    """An open zip file whose directory calls each member as the member calls itself.

    Without that, a damaged name would hide a member; `zipfile` compares when one is opened, and no checksum
    covers it.

    Raises:
        zipfile.BadZipFile: it is none, or a name is damaged.
    """
    archive = zipfile.ZipFile(path)
    try:
        for info in archive.infolist():
            archive.open(info).close()
    except BaseException:
        archive.close()
        raise
    return archive


def require_end(path: Path, archive: tarfile.TarFile) -> None:
    """Compare what follows the last member with the zeros that end a tar file: `tarfile` takes damage for the end.

    Raises:
        tarfile.ReadError: there is something else, or too little.
    """
    last = archive.getmembers()[-1:]
    with path.open("rb") as file:
        file.seek(max((member.offset_data + -(-member.size // 512) * 512 for member in last), default=0))
        rest = file.read(1 << 20)
    if len(rest) < 1024 or rest.strip(b"\0"):
        raise tarfile.ReadError("it is cut or damaged behind its last member")
