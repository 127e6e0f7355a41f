"""Sealed objects: AES-256-GCM in chunks, bound to the name that the object has in the store.

A sealed object is a header of 72 bytes and then the chunks::

    bytes 0-7     b"CEDGENC1": what it is, and the version of this format
    bytes 8-39    key id: 16 bytes that name the set, 16 random bytes that name the data key
    bytes 40-71   salt, random
    then          each 16 MiB of the content, the last ones shorter, encrypted, and their tag of 16 bytes after it

The object's own key is HKDF-SHA256 (RFC 5869) of the data key with that salt and the first 40 bytes as `info`. So a
key encrypts one object, and a counter can be the nonce: no nonce is used twice under one key, however many objects a
set has (NIST SP 800-38D, 8.2.1, deterministic construction). The nonce of a chunk is its number in 11 bytes, big
endian, and 1 for the last chunk or 0 for any other, so that chunks can be neither cut off, moved nor added (STREAM,
Hoang et al., Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015). The associated data
of every chunk are the header and the object's key in the store: an object under another name is refused.

To read one without this program: unwrap the data key (`infra/security/access.py`), then `HKDF` and `AESGCM` of
`cryptography`, chunk by chunk.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from data_catalog.errors import CorruptObject

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"CEDGENC1"
KEY_BYTES = 32
KEY_ID_BYTES = 32
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + KEY_ID_BYTES + SALT_BYTES
CHUNK_BYTES = 16 << 20
TAG_BYTES = 16


def seal(data: bytes, key: bytes, key_id: str, name: str) -> bytes:
    """Encrypt an object.

    Args:
        data: its content.
        key: the set's data key, 32 bytes.
        key_id: of the data key, 64 hexadecimal digits; anyone can read it in the header.
        name: the key of the object in the store.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import GCM

    header = MAGIC + bytes.fromhex(key_id) + os.urandom(SALT_BYTES)
    own = _object_key(key, header)
    chunks = list(_chunks(data, CHUNK_BYTES))
    # encrypted into its place: to fill fresh memory takes longer than to encrypt, so the object gets it once only
    sealed = io.BytesIO()
    sealed.seek(HEADER_BYTES + len(data) + TAG_BYTES * len(chunks) - 1)
    sealed.write(b"\0")
    with sealed.getbuffer() as view:
        view[:HEADER_BYTES] = header
        at = HEADER_BYTES
        for nonce, part in chunks:
            encryptor = Cipher(AES(own), GCM(nonce)).encryptor()
            encryptor.authenticate_additional_data(header + name.encode())
            end = at + len(part)
            encryptor.update_into(part, view[at : end + TAG_BYTES])
            encryptor.finalize()
            at = end + TAG_BYTES
            view[end:at] = encryptor.tag
    return sealed.getvalue()


def unseal(sealed: bytes, key: bytes, name: str) -> bytes:
    """The content of an object that `seal` made under this key and name.

    Raises:
        CorruptObject: a bit of it has changed, it was cut, it has another name, or the key is another; names it.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id_of(sealed, name)
    header, body = sealed[:HEADER_BYTES], memoryview(sealed)[HEADER_BYTES:]
    cipher = AESGCM(_object_key(key, header))
    bound = header + name.encode()
    try:
        return b"".join([cipher.decrypt(nonce, part, bound) for nonce, part in _chunks(body, CHUNK_BYTES + TAG_BYTES)])
    except InvalidTag as error:
        raise _corrupt(name, "it does not pass the authentication by its data key") from error


def key_id_of(sealed: bytes, name: str) -> str:
    """The id of the data key that an object is sealed with; its header is enough.

    Raises:
        CorruptObject: this is no sealed object.
    """
    if len(sealed) < HEADER_BYTES or not sealed.startswith(MAGIC):
        raise _corrupt(name, "it has not the header of an encrypted object")
    return sealed[len(MAGIC) : len(MAGIC) + KEY_ID_BYTES].hex()


def _object_key(key: bytes, header: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    named = len(MAGIC) + KEY_ID_BYTES
    return HKDF(SHA256(), KEY_BYTES, salt=header[named:], info=header[:named]).derive(key)


def _chunks(data: bytes | memoryview, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """The parts of the data with their nonces; of no data one empty part."""
    view = memoryview(data)
    count = max(1, -(-len(view) // size))
    for number in range(count):
        nonce = number.to_bytes(11, "big") + bytes([number + 1 == count])
        yield nonce, view[number * size : (number + 1) * size]


def _corrupt(name: str, why: str) -> CorruptObject:
    return CorruptObject(f"{name} is corrupt ({why}); delete that object and run again, it will be made anew")
