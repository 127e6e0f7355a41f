"""Secrets that must stand nowhere, and a search of every place where anybody may read, in every spelling."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_catalog.access import Access
from data_catalog.errors import KeyMissing
from infra import enrolment, keys
from infra.security import access, pairs, signing
from infra.stack import servers

PAGE = 200  # most that Prefect gives at once
KEPT = ("credentials.json", "stack.json", "private.pem", signing.PRIVATE_KEY)  # files that are there for secrets
DIGITS = re.compile(rb"[0-9a-f]{64}")


def secrets_of(home: Path, store) -> dict[str, bytes]:
    """All that nobody may see, by name: of the store, of Prefect, private keys and data keys."""
    _, store_secret, auth_string = servers.credentials(home)  # the first is a name: presigned URLs carry it
    planted = {"store secret": store_secret.encode(), "auth string": auth_string.encode()}
    for path in (home / "sites").glob("*/private.pem"):
        planted[f"private key of {path.parent.name}"] = path.read_bytes().splitlines()[10]
    planted["signing key"] = signing.signing_key(home).private_bytes_raw()
    planted["signing key's file"] = (home / signing.PRIVATE_KEY).read_bytes().splitlines()[1]
    for key in store.keys(keys.DATA_KEYS):
        record = access.read_wrapped(store, key)
        try:
            planted[key] = access.unwrap(record, pairs.private_keys(home, record.site), home)
        except KeyMissing:
            continue
    return planted


def secrets_of_token(text: str) -> dict[str, bytes]:
    """An invitation: all of it, and the part that proves it."""
    return {"token": text.encode(), "token's secret": enrolment.read_token(text).secret.encode()}


def signatures(*granted: Access) -> set[bytes]:
    """With each of which one object of the store can be read or written."""
    return {sign.encode() for grant in granted for sign in (*grant.reads.values(), *grant.writes.values())}


def spellings(secret: bytes) -> Iterator[bytes]:
    """As it is, and as it would be written into a text."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")


def search(
    secrets: dict[str, bytes], places: Iterable[tuple[str, bytes]], signed: Iterable[bytes] = frozenset()
) -> list[str]:
    """Which secret, or signature, stands where."""
    wanted, signed = [(name, text) for name, secret in secrets.items() for text in spellings(secret)], set(signed)
    found = set()
    for place, text in places:
        found |= {f"{name} in {place}" for name, secret in wanted if secret in text}
        found |= {f"a signature in {place}"} if signed and not signed.isdisjoint(DIGITS.findall(text)) else set()
    return sorted(found)


def in_prefect(client) -> Iterator[tuple[str, bytes]]:
    """Parameters, results and states of all flow and task runs, their logs, and all artifacts."""
    for name in ("flow_runs", "task_runs", "logs", "artifacts"):
        read = getattr(client, f"read_{name}")
        for first in range(0, 10**5, PAGE):
            page = read(limit=PAGE, offset=first)
            yield from ((f"{name} {item.id}", item.model_dump_json().encode()) for item in page)
            if len(page) < PAGE:
                break


def in_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a home that is not a place for secrets or a server's own disk."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).parts[0] != "s3" and path.name not in KEPT:
            yield str(path.relative_to(folder)), path.read_bytes()
