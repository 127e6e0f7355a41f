"""Sealed objects: what was sealed comes back, and anything else is refused; wrapped keys likewise."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import cryptography.hazmat.primitives.ciphers
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import CorruptObject, KeyMissing
from infra.security import access, pairs, sealing

pytestmark = pytest.mark.property

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)
KEY_ID = "ab" * 32
NAME = "datasets/d/shards/s.arrow.zstd.enc"
PAIR, STRANGER = (rsa.generate_private_key(65537, pairs.RSA_BITS) for _ in range(2))
CHUNK, SMALL_CHUNK = sealing.CHUNK_BYTES, 64


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that a few hundred bytes are many chunks."""
    monkeypatch.setattr(sealing, "CHUNK_BYTES", SMALL_CHUNK)


content = st.binary(max_size=5 * SMALL_CHUNK) | st.sampled_from([n * SMALL_CHUNK for n in range(5)]).map(
    secrets.token_bytes
)


def sealed(data: bytes, name: str = NAME) -> bytes:
    return sealing.seal(data, KEY, KEY_ID, name)


def refused(data: bytes, key: bytes = KEY, name: str = NAME) -> None:
    with pytest.raises(CorruptObject, match=r"is corrupt.*delete that object and run again") as caught:
        sealing.unseal(data, key, name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@given(content)
def test_what_was_sealed_comes_back(data):
    packed = sealed(data)
    assert sealing.unseal(packed, KEY, NAME) == data
    assert sealing.key_id_of(packed[: sealing.HEADER_BYTES], NAME) == KEY_ID
    chunks = max(1, -(-len(data) // SMALL_CHUNK))
    assert len(packed) == sealing.HEADER_BYTES + len(data) + chunks * sealing.TAG_BYTES


def test_large_objects_come_back_with_the_real_chunks(monkeypatch):
    monkeypatch.setattr(sealing, "CHUNK_BYTES", CHUNK)
    for size in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 5):
        data = secrets.token_bytes(size)
        assert sealing.unseal(sealed(data), KEY, NAME) == data


@given(content, st.data())
def test_any_flipped_bit_is_refused(data, draw):
    packed = bytearray(sealed(data))
    bit = draw.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << bit % 8
    refused(bytes(packed))


@given(content, st.data())
def test_any_cut_and_any_addition_is_refused(data, draw):
    packed = sealed(data)
    refused(packed[: draw.draw(st.integers(0, len(packed) - 1))])
    refused(packed + draw.draw(st.binary(min_size=1, max_size=100)))


@given(st.integers(2, 5), st.data())
def test_chunks_can_be_neither_moved_nor_dropped_nor_doubled(count, draw):
    packed = sealed(secrets.token_bytes(count * SMALL_CHUNK))
    size = SMALL_CHUNK + sealing.TAG_BYTES
    body = packed[sealing.HEADER_BYTES :]
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    order = draw.draw(st.lists(st.integers(0, count - 1), max_size=count + 2).filter(lambda o: o != list(range(count))))
    refused(packed[: sealing.HEADER_BYTES] + b"".join(chunks[i] for i in order))


@given(content, content)
def test_two_objects_cannot_be_swapped_nor_their_chunks(first, second):
    a, b = sealed(first), sealed(second, NAME + "2")
    refused(b)
    refused(a, name=NAME + "2")
    refused(a[: sealing.HEADER_BYTES] + sealed(first)[sealing.HEADER_BYTES :])


@given(content)
def test_another_key_is_refused(data):
    refused(sealed(data), key=OTHER)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    refused(data)
    refused(sealing.MAGIC + data)


def test_no_nonce_is_used_twice_under_one_key(monkeypatch):
    """Every chunk of a thousand objects of one set, the same content each: key and nonce together are unique."""
    used = []

    def recording(algorithm, mode):
        used.append((algorithm.key, mode.initialization_vector))
        return real(algorithm, mode)

    real = cryptography.hazmat.primitives.ciphers.Cipher
    monkeypatch.setattr("cryptography.hazmat.primitives.ciphers.Cipher", recording)
    packed = [sealed(b"x" * 5 * SMALL_CHUNK) for _ in range(1000)]
    assert len(used) == 5000
    assert len(set(used)) == len(used)
    assert all(len(nonce) == 12 for _, nonce in used)
    assert KEY not in {key for key, _ in used}
    assert len(set(packed)) == len(packed)


def test_an_object_can_be_read_by_what_the_docstring_says():
    """The format by hand, with nothing of ours."""
    data = secrets.token_bytes(2 * SMALL_CHUNK + 5)
    packed = sealed(data)
    header, body = packed[:72], packed[72:]
    assert header[:8] == b"CEDGENC1"
    cipher = AESGCM(HKDF(SHA256(), 32, salt=header[40:72], info=header[:40]).derive(KEY))
    parts = [body[i : i + SMALL_CHUNK + 16] for i in range(0, len(body), SMALL_CHUNK + 16)]
    nonces = [i.to_bytes(11, "big") + bytes([i == len(parts) - 1]) for i in range(len(parts))]
    bound = header + NAME.encode()
    assert b"".join(cipher.decrypt(n, part, bound) for n, part in zip(nonces, parts, strict=True)) == data


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["edge-1", "cloud"]))
def test_a_wrapped_key_comes_back_and_is_wrapped_anew_each_time(key, site):
    record = access.wrap(KEY_ID, key, site, "a set", PAIR.public_key())
    privates = {pairs.pair_id(PAIR.public_key()): PAIR}
    assert access.unwrap(record, privates, Path()) == key
    assert access.wrap(KEY_ID, key, site, "a set", PAIR.public_key()).wrapped != record.wrapped
    assert base64.b64encode(key).decode()[:20] not in record.model_dump_json()


def test_a_wrapped_key_is_for_one_pair_one_site_and_one_key_id():
    record = access.wrap(KEY_ID, KEY, "edge-1", "a set", PAIR.public_key())
    mine, stranger = {pairs.pair_id(PAIR.public_key()): PAIR}, {pairs.pair_id(STRANGER.public_key()): STRANGER}
    for privates in (stranger, {}):
        with pytest.raises(KeyMissing, match="private key of site edge-1"):
            access.unwrap(record, privates, Path())
    for change in ({"site": "edge-2"}, {"key_id": "cd" * 32}, {"wrapped": "no Base64"}, {"wrapped": ""}):
        with pytest.raises(CorruptObject, match="delete that object"):
            access.unwrap(record.model_copy(update=change), mine, Path())
    forged = {pairs.pair_id(PAIR.public_key()): STRANGER}  # the right name over another key
    with pytest.raises(CorruptObject):
        access.unwrap(record, forged, Path())


@given(st.data())
def test_a_wrapped_key_with_a_flipped_bit_is_refused(draw):
    record = access.wrap(KEY_ID, KEY, "edge-1", "a set", PAIR.public_key())
    raw = bytearray(base64.b64decode(record.wrapped))
    bit = draw.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    damaged = record.model_copy(update={"wrapped": base64.b64encode(raw).decode()})
    with pytest.raises(CorruptObject):
        access.unwrap(damaged, {pairs.pair_id(PAIR.public_key()): PAIR}, Path())
