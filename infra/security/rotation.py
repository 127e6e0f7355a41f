"""Look after the sites' key pairs: list, rotate, shred. No sealed object is read or written by any of it."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_catalog.errors import KeyMissing, StoreFull, UnknownName
from infra import keys
from infra.security import access, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.storage import Store


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """A site with a key pair, or with data keys that wait for it."""

    site: str
    pair: str  # id of the public key in the store; empty: none
    private_key_here: bool  # on this machine
    data_keys: int  # that it can open


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, and who can open it."""

    key_id: str
    what: str
    sites: tuple[str, ...]


def list_keys(store: Store, home: Path) -> tuple[list[SiteKeys], list[DataKey]]:
    """All sites that have keys, and all data keys, by name."""
    wrapped = _wrapped(store)
    sites = []
    for site in _sites(store, home):
        public = pairs.published(store, site)
        pair = pairs.pair_id(public) if public else ""
        mine = sum(site in holders for holders in wrapped.values())
        here = pairs.private_keys(home, site)
        sites.append(SiteKeys(site, pair, pair in here if pair else bool(here), mine))
    data_keys = [
        DataKey(key_id, access.read_wrapped(store, keys.wrapped_key(key_id, holders[0])).what, tuple(holders))
        for key_id, holders in wrapped.items()
    ]
    return sites, sorted(data_keys, key=lambda key: key.what)


def rotate(store: Store, home: Path, site: str) -> int:
    """Give a site a new pair and wrap its data keys to that one; the old private key is removed.

    Interrupted anywhere, the site can still open everything, with the one or the other of its private keys; done
    again, it is brought to its end.

    Args:
        store: where the wrapped keys lie.
        home: the sites' folder on this machine, which has to hold the site's private key.
        site: which one.

    Returns:
        How many data keys were wrapped anew.

    Raises:
        UnknownName: no such site has keys.
        KeyMissing: its private key is not on this machine.
    """
    require_site(store, home, site)
    folder = pairs.folder(home, site)
    privates = pairs.private_keys(home, site)
    if not (folder / pairs.CURRENT).is_file():
        raise KeyMissing(
            f"the private key of site {site} is not in {folder}, so its data keys cannot be opened; rotate where it is,"
            f" or give up what is encrypted for the site: `cloudedge keys shred {site}`"
        )
    new = pairs.make(home, site, pairs.NEXT).public_key()
    records = [
        access.read_wrapped(store, keys.wrapped_key(k, site)) for k, sites in _wrapped(store).items() if site in sites
    ]
    changed = 0
    for record in records:
        if record.pair != pairs.pair_id(new):
            key = access.unwrap(record, privates, home)
            access.put(store, access.wrap(record.key_id, key, site, record.what, new))
            changed += 1
    pairs.publish(store, site, new)
    (folder / pairs.NEXT).replace(folder / pairs.CURRENT)
    return changed


def shred(store: Store, home: Path, site: str) -> int:
    """Take away a site's access for good: its private key here, its data keys and its public key in the store.

    What is encrypted stays as it is, and readable by the other sites (crypto-shredding; "cryptographic erase" in NIST SP 800-88). The
    private key goes first, so that what is left, if this is interrupted, opens nothing.

    Returns:
        How many data keys the site could open.

    Raises:
        UnknownName: no such site has keys.
        StoreFull: the private key cannot be removed.
    """
    require_site(store, home, site)
    try:
        for name in (pairs.CURRENT, pairs.NEXT):
            (pairs.folder(home, site) / name).unlink(missing_ok=True)
        _sync(pairs.folder(home, site))
    except OSError as error:
        raise StoreFull(
            f"{pairs.folder(home, site)} cannot be written ({error}); remove the private key there by hand"
        ) from error
    return revoke(store, site)


def revoke(store: Store, site: str) -> int:
    """Take a site's wrapped data keys and its public key out of the store; returns how many data keys."""
    mine = [key_id for key_id, sites in _wrapped(store).items() if site in sites]
    for key_id in mine:
        store.delete(keys.wrapped_key(key_id, site))
    store.delete(keys.public_key(site))
    return len(mine)


def require_site(store: Store, home: Path, site: str) -> None:
    """UnknownName, if the site has no keys."""
    if site not in (known := _sites(store, home)):
        raise UnknownName.among("site with keys", site, known)


def _sites(store: Store, home: Path) -> list[str]:
    """Sites with a key in the store or on this machine."""
    published = (key.split("/") for key in store.keys("sites"))
    found = {parts[1] for parts in published if parts[2:] == ["public.pem"]}
    found |= {path.parent.name for path in (home / "sites").glob(f"*/{pairs.CURRENT}")}
    return sorted(found.union(*_wrapped(store).values()))


def _wrapped(store: Store) -> dict[str, Sequence[str]]:
    """The sites that each data key is wrapped to, by key id."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in store.keys(keys.DATA_KEYS):
        _, *key_id, file = key.split("/")
        found["".join(key_id)].append(file.removesuffix(".json"))
    return dict(found)


def _sync(folder: Path) -> None:
    """Have the removal on the disk, where the system can promise it."""
    if folder.is_dir():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
