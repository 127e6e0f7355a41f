"""The store as a site sees it that holds no credentials: single objects, by signatures that the coordinator made.

Reads go on at the byte at which they broke off, and are compared with the digest that their writer noted, as everywhere
(`infra/transfer.py`); what fails for a moment is tried again. Nothing is listed, deleted or written over that the access
does not name. What is not named is not there: `exists` and `keys` say so without asking.

An object whose key nobody knew before, as of escalated rows, goes into a slot of the order's outbox; the coordinator puts it
where it belongs (`infra/outbox.py`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import httpx

from data_catalog.access import Parcels
from data_catalog.errors import ObjectMissing, StoreError, StoreFull, StoreRefused, StoreUnreachable
from infra import keys as names
from infra import transfer
from infra.security.presigning import read_url, write_form
from infra.storage import ATTEMPTS, CALLS_AT_A_TIME, STALLED_SECONDS, WORTH_A_REQUEST, Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from data_catalog.access import Access

WORTH_ANOTHER = {408, 429, 500, 502, 503, 504}  # answers after which the same request may succeed


class SignedStore(Store):
    """The objects that one or more `Access` name. Safe in threads."""

    def __init__(self, *grants: Access) -> None:
        """Nothing is asked before it is needed.

        Args:
            grants: at least one, all of one bucket; of two that name a key the newer is used.
        """
        super().__init__(grants[0].bucket)
        self._grants = sorted(grants, key=lambda access: access.until)
        self._parcels: dict[str, dict[str, str]] = {}  # by outbox: of each object sent its slot, by key
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to the site's own Dask workers with what it may touch."""
        return (SignedStore, tuple(self._grants))

    def allow(self, access: Access, instead: Access | None = None) -> None:
        """Use this access too, or instead of another one; what has expired is forgotten."""
        with self._lock:
            living = [grant for grant in self._grants if grant.until > time.time() and grant is not instead]
            self._grants = sorted([*living, access], key=lambda grant: grant.until)

    def forget(self, access: Access) -> None:
        """Do not use this access any more."""
        with self._lock:
            self._grants = [grant for grant in self._grants if grant is not access]

    @cached_property
    def _http(self) -> httpx.Client:
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
        return httpx.Client(timeout=httpx.Timeout(STALLED_SECONDS, connect=5.0), limits=limits)

    @property
    def _fs(self) -> NoReturn:
        raise StoreRefused("a site without credentials reads and writes single objects, and nothing else")

    def _reading(self, key: str) -> Access | None:
        return next((access for access in reversed(self._grants) if key in access.reads), None)

    def _read(self, key: str, first: int, most: int) -> transfer.Piece:
        access = self._reading(key)
        if access is None:
            raise ObjectMissing(f"{key} is not there for this site: none of its orders names it")
        url = read_url(access, key)
        chunks: list[bytes] = []
        have, failures, version = 0, 0, ""
        while True:
            before, asked = have, {"Range": f"bytes={first + have}-{first + most - 1}"}
            try:
                with self._http.stream("GET", url, headers=asked) as answer:
                    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                        raise transfer.Rewritten(f"{self.bucket}/{key} is shorter than when its reading began")
                    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and not first:
                        return transfer.Piece(
                            b"", 0, hashlib.sha256(b"").hexdigest(), ""
                        )  # an empty object has no ranges
                    if not answer.is_success:
                        answer.read()
                        self._refuse(answer, key, access)
                    size = int(
                        answer.headers.get("content-range", "").rpartition("/")[2] or answer.headers["content-length"]
                    )
                    digest = answer.headers.get(f"x-amz-meta-{transfer.NOTED}", "")
                    written = answer.headers.get("etag") or answer.headers.get("last-modified", "")
                    piece = transfer.Piece(b"", size, digest, written)
                    if version not in ("", piece.version):
                        raise transfer.Rewritten(f"{self.bucket}/{key} was written anew while it was read; run again")
                    version = piece.version
                    for chunk in answer.iter_raw():  # as it arrives: of a chunk that breaks off nothing is lost
                        chunks.append(chunk)
                        have += len(chunk)
                return transfer.Piece(b"".join(chunks), size, digest, written)
            except (httpx.TransportError, _Passing) as error:
                failures = failures + 1 if have - before < WORTH_A_REQUEST else 1
                if failures == ATTEMPTS:
                    raise self._silent(key, error) from error
            time.sleep(transfer.pause(failures))

    def _put(self, key: str, cut: transfer.Cut, size: int, digest: str, kept: Path | None = None) -> None:
        access, place = self._place(key)
        if size > access.most_bytes:
            raise StoreRefused(
                f"{key} has {size:,} bytes, more than the {access.most_bytes:,} that this site's order allows"
            )
        data = cut(0, size)
        for failures in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.post(
                    access.url, data=write_form(access, place, digest), files={"file": ("object", data)}
                )  # fmt: skip
                if not answer.is_success:
                    self._refuse(answer, key, access)
            except (httpx.TransportError, _Passing) as error:
                if failures == ATTEMPTS:
                    raise self._silent(key, error) from error
                time.sleep(transfer.pause(failures))
            else:
                return

    def _place(self, key: str) -> tuple[Access, str]:
        """Whose signature writes the object, and under which key: its own, or a slot of an outbox that may hold it."""
        with self._lock:
            for access in reversed(self._grants):
                if key in access.writes:
                    return access, key
            for access in reversed(self._grants):
                if not (access.outbox and key.startswith(access.delivers)):
                    continue
                taken = self._parcels.setdefault(access.outbox, {})
                free = (slot for slot in slots(access) if slot not in taken.values())
                if slot := taken.get(key) or next(free, ""):
                    if key not in taken:
                        taken[key] = slot
                        self._slot_taken(access.outbox)
                    return access, slot
        raise StoreRefused(f"{key} is not among the objects that this site's orders let it write")

    def close_outbox(self, outbox: str) -> None:
        """Say what lies in an order's outbox, when all of it does; nothing if it is empty."""
        if sent := self._parcels.get(outbox, {}):
            self.put(names.parcels(outbox), Parcels(sent=sent).model_dump_json().encode())
            del self._parcels[outbox]

    def _slot_taken(self, outbox: str) -> None:
        """For those who have to know after a kill what is in which slot."""

    def exists(self, key: str) -> bool:
        """Whether the object is there, and may be read."""
        if self._reading(key) is None:
            return False
        try:
            self._read(key, 0, 1)
        except ObjectMissing:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """The keys under `prefix/` that may be read, sorted, whether there is something yet or not."""
        return sorted({key for access in self._grants for key in access.reads if key.startswith(f"{prefix}/")})

    def present(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that exist, and may be read; several requests at a time."""
        with ThreadPoolExecutor(CALLS_AT_A_TIME, thread_name_prefix="present") as pool:
            return {key for key, there in zip(keys, pool.map(self.exists, keys), strict=True) if there}

    def delete(self, key: str) -> None:
        """Make an object empty that may be written: nothing else is allowed to a site."""
        self.put(key, b"")

    def _refuse(self, answer: httpx.Response, key: str, access: Access) -> NoReturn:
        """Raise the error that the store's answer stands for."""
        text = " ".join(answer.text.split())[:200]
        if answer.status_code in WORTH_ANOTHER and "Storage" not in text:
            raise _Passing(f"{answer.status_code} {text}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise ObjectMissing(f"{self.bucket}/{key} is not in the store; run the flow again to make it")
        if answer.status_code == httpx.codes.FORBIDDEN:
            late = time.time() - access.until
            why = f"this site's access to it expired {late:.0f} s ago" if late > 0 else text
            raise StoreRefused(
                f"the store refused {self.bucket}/{key} ({why}); the coordinator has to send a new order"
            )
        if answer.status_code == httpx.codes.INSUFFICIENT_STORAGE or "StorageFull" in text:
            raise StoreFull(f"no space left while writing {self.bucket}/{key}; free some in the store and run again")
        raise StoreError(f"the store failed at {self.bucket}/{key}: {answer.status_code} {text}")

    def _silent(self, key: str, error: Exception) -> StoreUnreachable:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return StoreUnreachable(
            f"the store gave no answer for {self.bucket}/{key} ({text}); check this machine's network"
        )


class _Passing(Exception):
    """The store failed, and may not the next time."""


def slots(access: Access) -> list[str]:
    """The keys of an access for objects whose names nobody knew before."""
    return [key for key in access.writes if access.outbox and key.startswith(names.slot(access.outbox, 0)[:-5])]
