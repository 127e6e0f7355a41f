"""The store as a site's own process sees it: shards that stay lie in a folder of the site, all else crosses its link.

What crosses is counted, contents only: requests, headers and listings are not.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

from data_catalog.errors import CorruptObject, ObjectMissing, StoreFull
from infra import links
from infra.keys import is_shard
from infra.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

DIGEST_BYTES = 32
PATIENCE = 120.0  # seconds without a shard, when one is waited for
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks for it
UNFINISHED = ".unfinished-"  # then the writer's pid


class SiteStore(Store):
    """The objects of a bucket; those that were told to `stay` are read from the premises and written there."""

    def __init__(self, beyond: Store, folder: Path) -> None:
        """Nothing is read or made before it is needed.

        Args:
            beyond: the store on the far side of the link.
            folder: the site's own, for the objects that stay.
        """
        super().__init__(beyond.bucket)
        self.beyond, self._folder = beyond, folder
        self._staying: set[str] = set()
        self._lock = threading.Lock()
        self._arrived = time.monotonic()  # when the last shard that was waited for came
        self.received = self.sent = 0  # bytes of contents that crossed the link
        self.waited_seconds = 0.0

    def stay(self, keys: Iterable[str]) -> None:
        """Let these objects lie on the premises from now on, whatever the store has of them."""
        self._staying.update(keys)

    def carry_out(self, keys: Iterable[str]) -> list[links.Transfer]:
        """Send those of these objects that lie on the premises into the store, if it has them not; how that went."""

        def send(key: str) -> list[links.Transfer]:
            if not self._here(key) or self.beyond.exists(key):
                return []
            data = self._read_here(key)
            begun = time.time()
            self.beyond.put(key, data)
            self._went(len(data))
            return [(begun, time.time(), len(data))]

        with ThreadPoolExecutor(links.UPLOADS, thread_name_prefix="carry-out") as pool:
            return [transfer for sent in pool.map(send, keys) for transfer in sent]

    def account(self) -> tuple[int, int]:
        """Bytes that crossed the link, in and out, since this was asked last; so each is given to one letter."""
        with self._lock:
            crossed = self.received, self.sent
            self.received = self.sent = 0
            return crossed

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _here(self, key: str) -> bool:
        return self._path(key).is_file()

    def _came(self, data: bytes) -> bytes:
        with self._lock:
            self.received += len(data)
        return data

    def _went(self, size: int) -> None:
        with self._lock:
            self.sent += size

    def _read_here(self, key: str) -> bytes:
        data = self._path(key).read_bytes()
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
            self._path(key).unlink(missing_ok=True)  # the next run makes it anew
            raise CorruptObject(f"{key} was damaged on the disk of the site ({self._path(key)}); run again")
        return data[DIGEST_BYTES:]

    def get(self, key: str) -> bytes:
        """As `Store.get`; an object that stays is compared with its digest too, and a shard is waited for.

        Its origin may still be sending it. One is missing when none of those that are waited for has come for a while.
        """
        if not is_shard(key):
            return self._read_here(key) if self._here(key) else self._came(self.beyond.get(key))
        begun, pause = time.monotonic(), FIRST_PAUSE
        while True:
            asked = time.monotonic()
            try:
                data = self._read_here(key) if self._here(key) else self._came(self.beyond.get(key))
            except ObjectMissing:
                if time.monotonic() - max(begun, self._arrived) > PATIENCE:
                    raise
                time.sleep(pause)
                pause = min(LONGEST_PAUSE, 1.5 * pause)
            else:
                self._arrived = time.monotonic()
                with self._lock:
                    self.waited_seconds += asked - begun
                return data

    def get_start(self, key: str, size: int) -> bytes:
        """As `Store.get_start`."""
        return self._read_here(key)[:size] if self._here(key) else self._came(self.beyond.get_start(key, size))

    def get_file(self, key: str, path: Path) -> None:
        """As `Store.get_file`."""
        if self._here(key):
            path.write_bytes(self._read_here(key))
            return
        self.beyond.get_file(key, path)
        with self._lock:
            self.received += path.stat().st_size

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`; StoreFull if the site's disk takes no more."""
        if key not in self._staying:
            self.beyond.put(key, data)
            self._went(len(data))
            return
        unfinished = self._path(key).with_name(f"{UNFINISHED}{os.getpid()}-{uuid4().hex}")
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    file.write(hashlib.sha256(data).digest())
                    file.write(data)
                unfinished.rename(self._path(key))
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFull(f"{self._folder} cannot be written ({error}); free some space and run again") from error

    def put_new(self, key: str, data: bytes) -> None:
        """As `Store.put_new`."""
        self.beyond.put_new(key, data)
        self._went(len(data))

    def put_file(self, key: str, path: Path) -> None:
        """As `Store.put_file`."""
        self.beyond.put_file(key, path)
        self._went(path.stat().st_size)

    def bring(self, key: str) -> None:
        """Send an object that stayed across the link."""
        if key in self._staying or self._here(key):
            self._staying.discard(key)
            data = self._read_here(key)
            self.beyond.put(key, data)
            self._went(len(data))

    def exists(self, key: str) -> bool:
        """As `Store.exists`."""
        return self._here(key) if key in self._staying else self._here(key) or self.beyond.exists(key)

    def keys(self, prefix: str) -> list[str]:
        """As `Store.keys`; with those on the premises."""
        here = (path for path in (self._folder / prefix).rglob("*") if path.is_file())
        names = {path.relative_to(self._folder).as_posix() for path in here if not path.name.startswith(UNFINISHED)}
        return sorted(names | set(self.beyond.keys(prefix)))

    def present(self, keys: Sequence[str]) -> set[str]:
        """As `Store.present`; of those that stay, the ones on the premises."""
        here = {key for key in keys if self._here(key)}
        return here | self.beyond.present([key for key in keys if key not in here | self._staying])

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        self._path(key).unlink(missing_ok=True)
        if key not in self._staying:
            self.beyond.delete(key)
