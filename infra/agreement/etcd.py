"""Agreement over etcd, which has Raft inside, through the JSON form of its API (`/v3/kv`, etcd 3.4 and later).

A value's version is its `mod_revision`, and a swap is a transaction that compares it. Reads go through the leader and
a majority, as is etcd's default. etcd must be reached by coordinators alone: this client has no user of it.
"""

from __future__ import annotations

import base64
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data_catalog.errors import Conflict, SettingError, StoreError, StoreUnreachable

if TYPE_CHECKING:
    import httpx

    from infra.settings import Settings

PREFIX = "cloudedge/"
SECONDS = 3.0  # of a request


class Keys:
    """A register of one key of etcd a name."""

    def __init__(self, urls: tuple[str, ...], prefix: str) -> None:
        """Use the members at these addresses, the first that answers; `prefix` keeps two stores' leases apart."""
        self.urls, self.prefix = urls, prefix

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(timeout=SECONDS, trust_env=False)  # safe in threads; making one takes 50 ms

    def read(self, name: str) -> tuple[bytes, str] | None:
        """The value and the revision of its last change."""
        found = self._ask("range", {"key": self._key(name)}).get("kvs")
        return (base64.b64decode(found[0].get("value", "")), found[0]["mod_revision"]) if found else None

    def swap(self, name: str, version: str | None, value: bytes) -> str:
        """Write it in a transaction that compares the revision; 0 is that of a key that is not there."""
        key = self._key(name)
        answer = self._ask(
            "txn",
            {
                "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": version or "0"}],
                "success": [{"request_put": {"key": key, "value": base64.b64encode(value).decode()}}],
            },
        )
        if not answer.get("succeeded"):
            raise Conflict(f"{name} in etcd was changed by another; run again")
        return str(answer["header"]["revision"])

    def _key(self, name: str) -> str:
        return base64.b64encode(f"{self.prefix}{name}".encode()).decode()

    def _ask(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        problem: Exception | None = None
        for url in self.urls:
            try:
                answer = self._client.post(f"{url}/v3/kv/{call}", json=body)
                answer.raise_for_status()
                found: dict[str, Any] = answer.json()
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                problem = error
            else:
                return found
        text = " ".join(str(problem).split()) or type(problem).__name__
        kind = StoreError if isinstance(problem, httpx.HTTPStatusError) else StoreUnreachable
        raise kind(f"etcd at {', '.join(self.urls)} gave no answer ({text}); check CLOUDEDGE_ETCD_URL and that it runs")


def connect(settings: Settings) -> Keys:
    """The register in etcd; raises SettingError if none is named, StoreError if it gives no answer."""
    if not settings.etcd_urls:
        raise SettingError("CLOUDEDGE_AGREEMENT=etcd needs CLOUDEDGE_ETCD_URL, such as http://127.0.0.1:2379")
    register = Keys(settings.etcd_urls, f"{PREFIX}{settings.bucket}/")
    register.read("probe")
    return register
