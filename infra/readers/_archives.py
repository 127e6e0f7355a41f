"""Zip and tar files as they are trusted here: as a whole, or not at all."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_END = 22 + 65535  # the end record and its comment
IN_ZIP64 = 65535


def zipped(path: Path) -> zipfile.ZipFile:
    """An open zip file whose directory has as many members as it says, called as they call themselves.

    Without that, damage in the directory, which no checksum covers, would hide a member. `zipfile` compares the
    names when a member is opened, and the number not at all.

    Raises:
        zipfile.BadZipFile: it is none, or its directory is damaged.
    """
    archive = zipfile.ZipFile(path)
    try:
        for info in archive.infolist():
            archive.open(info).close()
        _require_number(path, len(archive.infolist()))
    except BaseException:
        archive.close()
        raise
    return archive


def _require_number(path: Path, members: int) -> None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_END))
        end = file.read()
    place = end.rindex(b"PK\5\6") + 10
    said = int.from_bytes(end[place : place + 2], "little")
    if said not in {members, IN_ZIP64}:
        raise zipfile.BadZipFile(f"its directory holds {members} members, its end says {said}")


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
