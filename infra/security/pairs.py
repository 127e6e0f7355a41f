"""Key pairs of sites: the private key on the site's own disk, the public one in the store.

RSA of 3072 bits, as strong as 128-bit keys (NIST SP 800-57 part 1, table 2). The private key is PEM (PKCS #8, not
encrypted) in `sites/<site>/private.pem` of the home, readable by its owner alone; the public key is `sites/<site>/public.pem` in the store.
A pair is made when a site first has to read a restricted dataset.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import TYPE_CHECKING

from data_catalog.errors import CorruptObject, KeyMissing, ObjectMissing, StoreFull
from infra import keys

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    from infra.storage import Store

RSA_BITS = 3072
CURRENT, NEXT = "private.pem", "private-next.pem"  # the latter only while the pair is being changed


def pair_id(public: RSAPublicKey) -> str:
    """The name of a pair: SHA-256 of its public key (DER, SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def folder(home: Path, site: str) -> Path:
    """Where the site keeps what is its own."""
    return home / "sites" / site


def private_keys(home: Path, site: str) -> dict[str, RSAPrivateKey]:
    """The site's private keys on this machine, by pair id: none, one, or two while the pair is being changed.

    Raises:
        KeyMissing: a file is there, but it is no private key.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = {}
    for name in (CURRENT, NEXT):
        path = folder(home, site) / name
        try:
            # the check of its arithmetic takes 0.1 s and guards against keys of strangers; this one we made
            key = load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError) as error:
            raise KeyMissing(_unreadable(site, path)) from error
        if not isinstance(key, RSAPrivateKey):
            raise KeyMissing(_unreadable(site, path))
        found[pair_id(key.public_key())] = key
    return found


def public_key(store: Store, home: Path, site: str) -> RSAPublicKey:
    """The site's public key; a site that has no pair yet, neither here nor in the store, gets one.

    Raises:
        KeyMissing: the store has the public key of another pair than is on this machine.
        CorruptObject: the object in the store is no public key.
        StoreFull: the private key cannot be written.
    """
    there = published(store, site)
    here = private_keys(home, site)
    if there is None:
        key = next(iter(here.values()), None) or make(home, site, CURRENT)
        publish(store, site, key.public_key())
        return key.public_key()
    if here and pair_id(there) not in here:
        raise KeyMissing(
            f"the private key of site {site} in {folder(home, site)} does not belong to {keys.public_key(site)} in the"
            f" store; put the right one there, or give the site a new pair: `cloudedge keys shred {site}`, then run again"
        )
    return there


def published(store: Store, site: str) -> RSAPublicKey | None:
    """The site's public key in the store, or None.

    Raises:
        CorruptObject: the object is no RSA key of enough bits.
    """
    name = keys.public_key(site)
    try:
        return read_public(store.get(name), name)
    except ObjectMissing:
        return None


def read_public(pem: bytes, name: str) -> RSAPublicKey:
    """A site's public key.

    Raises:
        CorruptObject: it is no RSA key of enough bits.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise CorruptObject(f"{name} is no public key; delete that object and run again") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS:
        raise CorruptObject(f"{name} is no RSA key of {RSA_BITS} bits or more; delete that object and run again")
    return key


def publish(store: Store, site: str, public: RSAPublicKey) -> None:
    """Put the public key into the store."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    store.put(keys.public_key(site), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def make(home: Path, site: str, name: str) -> RSAPrivateKey:
    """Make a private key and keep it under that name; of several who try at once, all get the first one's.

    Raises:
        StoreFull: it cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

    pem = generate_private_key(65537, RSA_BITS).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder(home, site) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=f"{name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
            os.link(unfinished, path)  # fails if there is one, and is never half there
        except FileExistsError:
            pem = path.read_bytes()
        finally:
            os.unlink(unfinished)  # noqa: PTH108
    except OSError as error:
        raise StoreFull(f"{path.parent} cannot be written ({error}); free some space and run again") from error
    return load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)  # type: ignore[return-value]


def _unreadable(site: str, path: Path) -> str:
    return (
        f"the private key of site {site}, {path}, cannot be read; restore it from a copy, or give the site a new pair:"
        f" `cloudedge keys shred {site}`, then run again"
    )
