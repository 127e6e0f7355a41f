"""Packed shards on a site's own disk, so that what crossed its link once does not cross it again.

An entry is a file named like the object (its name has the digest of the shard, and says the codec): the SHA-256 of the
packed bytes, then these bytes, as they lie in the store, encrypted where they are. Least recently used is what was
read or written longest ago, by the file's modification time.

Any number of processes and threads share a folder without a lock. An entry appears by a rename, so it is whole or not
there; whoever adds one removes what is too much, so at rest the folder keeps its bound, and while n entries are being
added it may hold n more. Readers and removers that meet miss an entry at worst, and fetch it again. What a killed
writer left is removed by the next one; what a crash of the machine damaged is found by its digest. A disk that
cannot be written is no failure: the shard is there, only not kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from infra.workspace import lives

if TYPE_CHECKING:
    from pathlib import Path

    from data_catalog.nouns import OrderedShard
    from infra.storage import Store

DIGEST_BYTES = 32
SHARE_OF_DISK = 0.1  # of what is free: a cache must not be what fills a disk
UNFINISHED = ".unfinished-"  # then the writer's pid


def read_shard(store: Store, shard: OrderedShard, folder: Path, most: int) -> tuple[bytes, int]:
    """A shard's packed bytes, from the site's disk if it keeps them and they would cross a link, else from the store.

    Args:
        store: where they come from the first time.
        shard: which; one that is `local` crosses no link and is not kept.
        folder: the cache.
        most: bytes that the cache may hold; 0: none is kept.

    Returns:
        The bytes, and how many of them came from the store.

    Raises:
        StoreError: or a subclass, as `Store.get`.
    """
    if shard.local or not most:
        packed = store.get(shard.key)
        return packed, len(packed)
    kept = get(folder, shard.key)
    if kept is not None:
        return kept, 0
    packed = store.get(shard.key)
    put(folder, shard.key, packed, most)
    return packed, len(packed)


def get(folder: Path, key: str) -> bytes | None:
    """An entry, verified, and now the most recently used; None if there is none. A damaged one is removed."""
    path = _path(folder, key)
    try:
        with path.open("rb") as file:
            promised, packed = file.read(DIGEST_BYTES), file.read()
        if hashlib.sha256(packed).digest() != promised:
            path.unlink(missing_ok=True)
            return None
        _touch(path)
    except FileNotFoundError:  # never there, or removed just now to make room
        return None
    except OSError:  # a disk that fails: the store has the shard
        return None
    return packed


def put(folder: Path, key: str, packed: bytes, most: int) -> None:
    """Keep an entry, and remove the least recently used ones until all hold `most` bytes, or a tenth of the free disk.

    One that is larger than that alone is not kept.
    """
    path = _path(folder, key)
    unfinished = folder / f"{UNFINISHED}{os.getpid()}-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        most = min(most, _share(folder))
        if DIGEST_BYTES + len(packed) > most:
            return
        try:
            with unfinished.open("wb") as file:
                file.write(hashlib.sha256(packed).digest())
                file.write(packed)
            _touch(unfinished)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        _shrink(folder, most)
    except OSError:  # a full disk or a folder that is not ours: the shard is not kept
        return


def drop(folder: Path, key: str) -> None:
    """Forget an entry; no error if there is none."""
    with suppress(OSError):
        _path(folder, key).unlink()


def _path(folder: Path, key: str) -> Path:
    return folder / key.rpartition("/")[2]


def _touch(path: Path) -> None:
    now = time.time_ns()  # the file system's own clock is coarser
    os.utime(path, ns=(now, now))


def _share(folder: Path) -> int:
    """The bytes that the disk can spare for the cache: a share of what would be free without it."""
    return int(SHARE_OF_DISK * (shutil.disk_usage(folder).free + sum(size for _, size, _ in _entries(folder))))


def _entries(folder: Path) -> list[tuple[int, int, str]]:
    """Of each entry when it was used, its bytes and its name. Removes what killed writers left unfinished."""
    found = []
    with os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):  # removed meanwhile
                if not file.name.startswith(UNFINISHED):
                    about = file.stat()
                    found.append((about.st_mtime_ns, about.st_size, file.name))
                elif not lives(file.name.removeprefix(UNFINISHED).partition("-")[0]):
                    os.unlink(file.path)  # noqa: PTH108  scandir has no Path
    return found


def _shrink(folder: Path, most: int) -> None:
    """Remove the least recently used entries until the others hold at most `most` bytes."""
    entries = sorted(_entries(folder))
    too_much = sum(size for _, size, _ in entries) - most
    for _, size, name in entries:
        if too_much <= 0:
            return
        (folder / name).unlink(missing_ok=True)
        too_much -= size
