"""Who can open what: data keys, wrapped to each site that has to read what they encrypt.

A wrapped key is the noun `WrappedKey` as JSON under `keys/<set>/<key>/<site>.json`, where `<set><key>` is the key id
in the header of the sealed objects: RSA-OAEP (RFC 8017, SHA-256 and MGF1 with SHA-256) whose label is
`<key id>/<site>`, so that a wrapped key cannot pass for another. Whoever can open a data key can wrap it to one more
site, which takes a millisecond and touches no sealed object.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from data_catalog.errors import CorruptObject, KeyMissing, ObjectMissing
from data_catalog.nouns import WrappedKey
from infra import keys
from infra.pipeline import side_by_side
from infra.security import pairs, sealing
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    from infra.storage import Store

CALLS_AT_A_TIME = 8


class Keyring:
    """The data keys that one site can open; opens each once, and makes those of new sets. Safe in threads."""

    def __init__(self, store: Store, site: str, home: Path | None = None) -> None:
        """Nothing is read or made before it is needed.

        Args:
            store: where the wrapped keys lie.
            site: which site this is.
            home: the sites' folder on this machine; None: as the settings say.
        """
        self.store, self.site, self._home = store, site, home
        self._lock = threading.RLock()
        self._privates: dict[str, RSAPrivateKey] | None = None
        self._publics: dict[str, RSAPublicKey] = {}
        self._opened: dict[str, bytes] = {}  # data keys by id
        self._ids: dict[str, str] = {}  # by the name of the set
        self._shared: set[tuple[str, str]] = set()  # key id and site

    @property
    def home(self) -> Path:
        """The sites' folder on this machine."""
        return self._home or read_settings().home

    def seal(self, name: str, data: bytes, shard_set: str, recipients: Iterable[str] = ()) -> bytes:
        """Encrypt an object with its set's data key, and make sure that the recipients can open it.

        Args:
            name: the object's key in the store.
            data: its content.
            shard_set: what is encrypted together, in words that no other set has; a new set gets a new data key.
            recipients: the sites that have to read it, beside this one.
        """
        key_id = self.key_of(shard_set, recipients)
        return sealing.seal(data, self._data_key(key_id, name), key_id, name)

    def open(self, name: str, sealed: bytes) -> bytes:
        """The content of an object.

        Raises:
            KeyMissing: this site has no access to it.
            CorruptObject: it is not what was sealed under this name.
        """
        return sealing.unseal(sealed, self._data_key(sealing.key_id_of(sealed, name), name), name)

    def key_of(self, shard_set: str, recipients: Iterable[str] = ()) -> str:
        """The id of a set's data key, which is made if this site has none, and wrapped to whom it is not yet."""
        with self._lock:
            if shard_set not in self._ids:
                self._ids[shard_set] = self.find(shard_set) or self._make(shard_set, recipients)
            key_id = self._ids[shard_set]
            self._grant(key_id, recipients, shard_set)  # to a new one; else there is nothing to do
            return key_id

    def find(self, shard_set: str) -> str | None:
        """The id of a data key of the set that this site can open."""
        if not self._mine():
            return None
        name = set_name(shard_set)
        wrapped = self.store.keys(f"{keys.DATA_KEYS}/{name}")
        ids = [name + key.split("/")[2] for key in wrapped if key.endswith(f"/{self.site}.json")]
        return next((key_id for key_id in ids if self._is_shared(key_id, self.site)), None)

    def share(self, names: Sequence[tuple[str, Sequence[str]]]) -> set[str]:
        """Those of the stored objects that their recipients can open; wraps the data keys that they lack.

        Args:
            names: objects, and for each the sites that have to read it. Of an object its header alone is read.
        """

        def header(name: str) -> bytes:
            return self.store.get_start(name, sealing.HEADER_BYTES)

        with ThreadPoolExecutor(CALLS_AT_A_TIME, thread_name_prefix="headers") as pool:
            headers = list(pool.map(header, [name for name, _ in names]))
        return {name for (name, sites), start in zip(names, headers, strict=True) if self._can(name, start, sites)}

    def _can(self, name: str, start: bytes, sites: Sequence[str]) -> bool:
        try:
            with self._lock:
                self._grant(sealing.key_id_of(start, name), sites, name)
        except (KeyMissing, CorruptObject):  # to be encrypted anew
            return False
        return True

    def _grant(self, key_id: str, sites: Iterable[str], name: str) -> None:
        """Wrap the data key to those sites that cannot open it yet."""
        for site in sites:
            if not self._is_shared(key_id, site):
                self._wrap(key_id, self._data_key(key_id, name), site, self._record(key_id, self.site).what)

    def _is_shared(self, key_id: str, site: str) -> bool:
        """Whether the data key is wrapped to the pair that the site has now."""
        if (key_id, site) not in self._shared:
            try:
                pair = self._record(key_id, site).pair
            except ObjectMissing:
                return False
            if pair != pairs.pair_id(self._public(site)):
                return False
            self._shared.add((key_id, site))
        return True

    def _make(self, shard_set: str, recipients: Iterable[str]) -> str:
        key_id, key = set_name(shard_set) + secrets.token_hex(16), secrets.token_bytes(sealing.KEY_BYTES)
        sites = list(dict.fromkeys((self.site, *recipients)))
        side_by_side(self._public, sites)
        if pairs.pair_id(self._public(self.site)) not in self._mine():
            raise _no_private_key(self.site, self.home, keys.public_key(self.site))
        side_by_side(lambda site: self._wrap(key_id, key, site, shard_set), sites)
        self._opened[key_id] = key
        return key_id

    def _wrap(self, key_id: str, key: bytes, site: str, what: str) -> None:
        put(self.store, wrap(key_id, key, site, what, self._public(site)))
        self._shared.add((key_id, site))

    def _data_key(self, key_id: str, name: str) -> bytes:
        with self._lock:
            if key_id not in self._opened:
                try:
                    record = self._record(key_id, self.site)
                except ObjectMissing as error:
                    raise KeyMissing(
                        f"site {self.site} has no key to {name} (no {keys.wrapped_key(key_id, self.site)} in the store);"
                        " run again where its data is born, which lets the planned sites read it"
                    ) from error
                self._opened[key_id] = unwrap(record, self._mine(), self.home)
            return self._opened[key_id]

    def _mine(self) -> dict[str, RSAPrivateKey]:
        if not self._privates:
            self._privates = pairs.private_keys(self.home, self.site)
        return self._privates

    def _public(self, site: str) -> RSAPublicKey:
        if site not in self._publics:
            self._publics[site] = pairs.public_key(self.store, self.home, site)
        return self._publics[site]

    def _record(self, key_id: str, site: str) -> WrappedKey:
        return read_wrapped(self.store, keys.wrapped_key(key_id, site))


def shards_of(dataset: str, source: str, digests: Iterable[str]) -> str:
    """What the shards of one source are encrypted as: another set, another data key."""
    return f"shards of {dataset}, source {source}, {keys.digest_of('shards', sorted(digests))[:16]}"


def set_name(shard_set: str) -> str:
    """The first half of the ids of a set's data keys."""
    return hashlib.sha256(shard_set.encode()).hexdigest()[: sealing.KEY_ID_BYTES]


def wrap(key_id: str, key: bytes, site: str, what: str, public: RSAPublicKey) -> WrappedKey:
    """A data key for one site."""
    wrapped = public.encrypt(key, _oaep(key_id, site))
    return WrappedKey(
        key_id=key_id, what=what, site=site, pair=pairs.pair_id(public), wrapped=base64.b64encode(wrapped).decode()
    )


def unwrap(record: WrappedKey, privates: dict[str, RSAPrivateKey], home: Path) -> bytes:
    """The data key.

    Args:
        record: as it lies in the store.
        privates: the site's private keys on this machine, by pair id.
        home: where they were looked for, for the error.

    Raises:
        KeyMissing: none of them belongs to the public key that it was wrapped with.
        CorruptObject: it is damaged, or another one's.
    """
    name = keys.wrapped_key(record.key_id, record.site)
    if record.pair not in privates:
        raise _no_private_key(record.site, home, name)
    try:
        return privates[record.pair].decrypt(base64.b64decode(record.wrapped), _oaep(record.key_id, record.site))
    except ValueError as error:
        raise CorruptObject(f"{name} is corrupt; delete that object and run again") from error


def _no_private_key(site: str, home: Path, name: str) -> KeyMissing:
    return KeyMissing(
        f"the private key of site {site} that belongs to {name} is not in {pairs.folder(home, site)}; put it there, or"
        f" give the site a new pair: `cloudedge keys shred {site}`, then run again where the data is born"
    )


def put(store: Store, record: WrappedKey) -> None:
    """Store a wrapped key."""
    store.put(keys.wrapped_key(record.key_id, record.site), record.model_dump_json(indent=1).encode())


def read_wrapped(store: Store, name: str) -> WrappedKey:
    """The wrapped key of that name.

    Raises:
        ObjectMissing: there is none.
        CorruptObject: the object is something else.
    """
    try:
        record = WrappedKey.model_validate_json(store.get(name))
    except ValueError as error:
        raise CorruptObject(f"{name} is no wrapped key; delete that object and run again") from error
    if keys.wrapped_key(record.key_id, record.site) != name:
        raise CorruptObject(f"{name} is the wrapped key of another object; delete that object and run again")
    return record


def _oaep(key_id: str, site: str) -> OAEP:
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
    from cryptography.hazmat.primitives.hashes import SHA256

    return OAEP(MGF1(SHA256()), SHA256(), f"{key_id}/{site}".encode())
