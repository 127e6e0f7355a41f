"""Orders that a site can trust: signed by the coordinator (Ed25519, RFC 8032), for one site, for a time, once.

A signed object is a line of JSON with the id of the key and the signature, and after it the JSON of an `Envelope`. What
is signed is `PURPOSE` and then exactly the bytes after the first line; nothing is serialised anew before it is verified.

The private key is `coordinator.pem` in the home of the coordinator, for its owner alone. A site gets the public key in
its token, and obeys nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import tempfile
import time
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from data_catalog.access import Access, Envelope
from data_catalog.errors import KeyMissing, OrderRefused, StoreFull

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PURPOSE = b"cloudedge envelope 1\n"  # so that nothing else that the key ever signs can pass for an envelope
SKEW_SECONDS = 300.0  # by which the clocks of site and coordinator may differ
PRIVATE_KEY = "coordinator.pem"


def signing_key(home: Path) -> Ed25519PrivateKey:
    """The coordinator's private key, made at its first use.

    Raises:
        KeyMissing: the file is no such key.
        StoreFull: it cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

    path = home / PRIVATE_KEY
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_once(path, pem)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyMissing(f"{path}, the key that signs orders, cannot be read; restore it from a copy") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMissing(f"{path} is no Ed25519 key; restore it from a copy")
    return key


def public_key(private: Ed25519PrivateKey) -> str:
    """The public key, 32 bytes in Base64."""
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def key_id(public: str) -> str:
    """The name of a public key, for people."""
    return hashlib.sha256(base64.b64decode(public)).hexdigest()[:16]


def invitation_secret(private: Ed25519PrivateKey, site: str, nonce: str) -> str:
    """The secret of an invitation: only who has the private key can make it again, so it is stored nowhere."""
    return hashlib.blake2b(
        f"{site}/{nonce}".encode(), key=private.private_bytes_raw(), person=b"cloudedge-invite", digest_size=32
    ).hexdigest()


def enclose(
    kind: Literal["order", "mailbox"],
    site: str,
    order_id: str,
    body: dict[str, Any],
    access: Access,
    now: float,
    does: str = "",
    answer: str = "",
) -> Envelope:
    """An envelope that lives as long as its access; a new one each time."""
    return Envelope(
        kind=kind,
        site=site,
        order_id=order_id,
        nonce=secrets.token_hex(16),
        not_before=now,
        not_after=access.until,
        body=body,
        access=access,
        does=does,
        answer=answer,
    )


def sign(private: Ed25519PrivateKey, envelope: Envelope) -> bytes:
    """The envelope as it is stored."""
    body = envelope.model_dump_json().encode()
    signature = base64.b64encode(private.sign(PURPOSE + body)).decode()
    return json.dumps({"key": key_id(public_key(private)), "signature": signature}).encode() + b"\n" + body


def verify(
    data: bytes,
    public: str,
    kind: Literal["order", "mailbox"],
    site: str,
    name: str,
    now: float | None = None,
    expired: bool = False,
) -> Envelope:
    """The envelope, if it is what it claims to be.

    Args:
        data: as `sign` made it.
        public: the coordinator's public key.
        kind: what it has to be.
        site: who asks.
        name: of the object, for the error.
        now: seconds since 1970; None: by this machine's clock.
        expired: take it also if its time is over: the coordinator reads what it signed once.

    Raises:
        OrderRefused: forged, altered, for another site, of another kind, expired or of the future; says which.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    now = time.time() if now is None else now
    head, _, body = data.partition(b"\n")
    try:
        claimed = json.loads(head)
        signer, signature = str(claimed["key"]), base64.b64decode(claimed["signature"], validate=True)
    except (ValueError, TypeError, KeyError) as error:
        raise OrderRefused(f"{name} is not signed; the coordinator has to write it anew") from error
    if signer != key_id(public):
        raise OrderRefused(
            f"{name} is forged: signed with key {signer[:16]}, not with {key_id(public)} of the coordinator that this site"
            " joined; if that has a new key, join again"
        )
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(signature, PURPOSE + body)
        envelope = Envelope.model_validate_json(body)
    except InvalidSignature as error:
        raise OrderRefused(
            f"{name} is altered or forged: its signature does not fit; the coordinator has to write it anew"
        ) from error
    except ValidationError as error:  # signed, but by a version of the program that says things differently
        raise OrderRefused(
            f"{name} is of another version of cloudedge; install the coordinator's on this site"
        ) from error
    if envelope.site != site:
        raise OrderRefused(f"{name} is for site {envelope.site}, not for {site}")
    if envelope.kind != kind:
        raise OrderRefused(f"{name} is signed as {envelope.kind}, not as {kind}")
    if now > envelope.not_after + SKEW_SECONDS and not expired:
        raise OrderRefused(
            f"{name} expired {now - envelope.not_after:.0f} s ago; the coordinator has to write it anew, or this machine's"
            " clock is wrong"
        )
    if now < envelope.not_before - SKEW_SECONDS:
        raise OrderRefused(
            f"{name} was signed {envelope.not_before - now:.0f} s in the future; set this machine's clock"
        )
    return envelope


def require_new(path: Path, envelope: Envelope) -> None:
    """Refuse an order that was done before, and a mailbox that is older than one that was read.

    Args:
        path: the file of `note_done`.
        envelope: verified.

    Raises:
        OrderRefused: it is replayed.
    """
    done, newest = _done(path)
    if envelope.nonce in done or (envelope.kind == "mailbox" and envelope.not_before < newest):
        what = f"order {envelope.order_id}" if envelope.kind == "order" else "the mailbox"
        raise OrderRefused(f"{what} of site {envelope.site} is replayed: it was done before, or a newer one was")


def note_done(path: Path, envelope: Envelope) -> None:
    """Remember on the disk that an order is done, or which mailbox is the newest; what has expired is forgotten.

    Raises:
        StoreFull: it cannot be written.
    """
    done, newest = _done(path)
    if envelope.kind == "mailbox":
        newest = max(newest, envelope.not_before)
    else:
        done[envelope.nonce] = envelope.not_after
    oldest = time.time() - 2 * SKEW_SECONDS
    kept = {nonce: until for nonce, until in done.items() if until > oldest}
    write_private(path, json.dumps({"newest_mailbox": newest, "done": kept}, indent=0).encode())


def _done(path: Path) -> tuple[dict[str, float], float]:
    """By nonce until when an order lives that was done, and when the newest mailbox was signed."""
    try:
        found = json.loads(path.read_text())
        return dict(found["done"]), float(found["newest_mailbox"])
    except FileNotFoundError:
        return {}, 0.0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyMissing(f"{path}, the list of orders done, cannot be read; restore it, or join again") from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, in place of what is there; whole or not at all.

    Raises:
        StoreFull: it cannot be written.
    """
    _write(path, data).replace(path)


def write_once(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, unless there is one; whole or not at all.

    Raises:
        StoreFull: it cannot be written.
    """
    unfinished = _write(path, data)
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); free some space and run again") from error
    finally:
        unfinished.unlink()


def _write(path: Path, data: bytes) -> Path:
    """A durable file beside `path`, to be put into its place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); free some space and run again") from error
    return path.parent / os.path.basename(name)  # noqa: PTH119
