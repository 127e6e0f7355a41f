"""The store behind a link that may be down: what cannot be sent waits on the site's disk, in order, and goes later, once.

An object that waits is a file: a line of JSON with its key and the SHA-256 of its bytes, then these bytes; it appears by a
rename after it is on the disk, so it is whole or not there. While one waits, later ones wait behind it: whoever finds a
result in the store finds what was written before it too. They are sent when the store is read again with success, as a
site does that looks into its mailbox, by whichever process lives then. Sending one twice, after a kill in between, writes
the same object.

The disk that this takes has a bound. When it is reached, or the disk is full, the writer gets `StoreFull`: the site
stops there, and loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING

from data_catalog.errors import StoreFull, StoreRefused, StoreUnreachable
from infra.storage import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_BYTES = 4 << 30


class BacklogStore(Store):
    """The objects of a bucket; those that wait are there for this site. Safe in threads, one process a folder."""

    def __init__(self, beyond: Store, folder: Path, most: int = MOST_BYTES) -> None:
        """Take up what an earlier process left.

        Args:
            beyond: the store on the far side of the link.
            folder: the site's own, for what waits.
            most: bytes that may wait.
        """
        super().__init__(beyond.bucket)
        self._beyond, self._folder, self._most = beyond, folder, most
        self._lock = threading.RLock()
        self._files: dict[str, Path] = {}  # by key, oldest first
        self._bytes = self._serial = 0
        for path in sorted(folder.glob("[0-9]*")) if folder.is_dir() else []:
            found = _read(path)
            if found is None:  # a crash of the machine damaged it: the order makes it again
                path.unlink()
                continue
            self._take(found[0], path, path.stat().st_size)
            self._serial = int(path.name) + 1

    def _take(self, key: str, path: Path, size: int) -> None:
        if old := self._files.pop(key, None):
            self._bytes -= old.stat().st_size
            old.unlink()
        self._files[key] = path
        self._bytes += size

    @property
    def waiting(self) -> int:
        """Objects that wait."""
        return len(self._files)

    def get(self, key: str) -> bytes:
        """As `Store.get`; then what waits is sent, because the link is up."""
        if (found := self._kept(key)) is not None:
            return found
        data = self._beyond.get(key)
        self.deliver()
        return data

    def _kept(self, key: str) -> bytes | None:
        with self._lock:
            path = self._files.get(key)
            found = _read(path) if path else None
        return found[1] if found else None

    def get_start(self, key: str, size: int) -> bytes:
        """As `Store.get_start`."""
        found = self._kept(key)
        return self._beyond.get_start(key, size) if found is None else found[:size]

    def get_file(self, key: str, path: Path) -> None:
        """As `Store.get_file`."""
        found = self._kept(key)
        if found is None:
            self._beyond.get_file(key, path)
        else:
            path.write_bytes(found)

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`; if the store gives no answer, or others wait already, it waits.

        Raises:
            StoreFull: the disk takes no more, or so many bytes wait as may.
        """
        with self._lock:
            if self._files:
                self._wait(key, data)
                return
        try:
            self._beyond.put(key, data)
        except StoreUnreachable:
            with self._lock:
                self._wait(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """As `Store.put_file`; a file does not wait, because it would take its place on the disk twice."""
        self._beyond.put_file(key, path)

    def put_new(self, key: str, data: bytes) -> None:
        """As `Store.put_new`; it cannot wait."""
        self._beyond.put_new(key, data)

    def _wait(self, key: str, data: bytes) -> None:
        if self._bytes + len(data) > self._most:
            raise StoreFull(
                f"{self._bytes:,} bytes wait in {self._folder} for the link of this site, and no more may; restore the link"
            )
        head = json.dumps({"key": key, "sha256": hashlib.sha256(data).hexdigest()}).encode() + b"\n"
        path = self._folder / f"{self._serial:010}"
        unfinished = path.with_name(f".{path.name}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with unfinished.open("wb") as file:
                file.write(head)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise StoreFull(
                f"{self._folder} cannot be written ({error}); free some space, or restore the link"
            ) from error
        self._serial += 1
        self._take(key, path, len(head) + len(data))

    def deliver(self) -> int:
        """Send what waits, oldest first, as far as the link carries; returns how many objects were sent."""
        sent = 0
        with self._lock:
            while self._files:
                key, path = next(iter(self._files.items()))
                found = _read(path)
                try:
                    if found:
                        self._beyond.put(key, found[1])
                        sent += 1
                except StoreUnreachable:
                    break
                except StoreRefused:  # it came too late: the access of its order is over; the next order makes it again
                    pass
                self._bytes -= path.stat().st_size
                del self._files[key]
                path.unlink()
        return sent

    def exists(self, key: str) -> bool:
        """As `Store.exists`."""
        return key in self._files or self._beyond.exists(key)

    def keys(self, prefix: str) -> list[str]:
        """As `Store.keys`."""
        with self._lock:
            here = {key for key in self._files if key.startswith(f"{prefix}/")}
        return sorted(here | set(self._beyond.keys(prefix)))

    def present(self, keys: Sequence[str]) -> set[str]:
        """As `Store.present`."""
        with self._lock:
            here = {key for key in keys if key in self._files}
        return here | self._beyond.present([key for key in keys if key not in here])

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        with self._lock:
            if path := self._files.pop(key, None):
                self._bytes -= path.stat().st_size
                path.unlink()
        self._beyond.delete(key)


def _read(path: Path) -> tuple[str, bytes] | None:
    """Key and bytes of what waits in a file; None if it is damaged."""
    try:
        head, _, data = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        whole = hashlib.sha256(data).hexdigest() == about["sha256"]
        return (str(about["key"]), data) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
