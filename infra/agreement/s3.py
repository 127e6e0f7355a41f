"""Agreement over the S3 store's conditional writes, where a probe shows that it keeps the conditions.

`If-None-Match: *` and `If-Match: <etag>` on PUT (S3 has them since 2024). Some stores take the headers and ignore
them without a word; JuiceFS's gateway 1.4 is one. A lease over such a store would have two holders.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from data_catalog.errors import Conflict, ObjectMissing, SettingError, StoreError
from infra import keys
from infra.storage import open_store

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.storage import Store

AT_ONCE = 6  # writers of the probe


class Objects:
    """A register of one object a name; an object's version is its ETag."""

    def __init__(self, store: Store) -> None:
        """Use that store."""
        self.store = store

    def read(self, name: str) -> tuple[bytes, str] | None:
        """The object and its ETag."""
        try:
            return self.store.get_version(keys.agreement(name))
        except ObjectMissing:
            return None

    def swap(self, name: str, version: str | None, value: bytes) -> str:
        """Write it on condition."""
        return self.store.put_if(keys.agreement(name), value, version)


def connect(settings: Settings) -> Objects:
    """The register in the store's bucket, after the probe; raises SettingError if the store ignores a condition."""
    register = Objects(open_store(settings.required_bucket()))
    name = f"probe-{secrets.token_hex(8)}"
    try:
        ignored = probe(register, name)
    finally:
        register.store.delete(keys.agreement(name))
    if ignored:
        raise SettingError(
            f"the store at {settings.endpoint_url or 'AWS'} ignores {ignored}, so coordinators cannot agree over it; set"
            " CLOUDEDGE_AGREEMENT=etcd and CLOUDEDGE_ETCD_URL, or run one coordinator and set CLOUDEDGE_COORDINATORS=1"
        )
    return register


def probe(register: Objects, name: str) -> str:
    """Which condition the store ignores; empty: it keeps them all. Leaves an object of that name."""

    def refuses(version: str | None, value: bytes) -> bool:
        with suppress(Conflict):
            register.swap(name, version, value)
            return False
        return True

    first = register.swap(name, None, b"1")
    if not refuses(None, b"2"):
        return "`If-None-Match: *` of a write"
    if not refuses('"' + "0" * 32 + '"', b"2"):
        return "`If-Match` of a write"
    second = register.swap(name, first, b"2")
    if not refuses(first, b"3"):
        return "`If-Match` of a write"
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as pool:
        lost = list(pool.map(lambda number: refuses(second, f"of {number}".encode()), range(AT_ONCE)))
    if lost.count(False) > 1:
        return "`If-Match` of writes at the same time"
    if lost.count(False) == 1 and (register.read(name) or (b"", ""))[0] != f"of {lost.index(False)}".encode():
        raise StoreError(
            "the store gave back another object than the one that was written on condition; look at its log"
        )
    return ""
