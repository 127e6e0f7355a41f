"""The shelf and wire form of a model: what the store keeps and a link carries; it gives the model back bit for bit.

    3 bytes  magic number
    1 byte   form: how the body is made
    varint   size of the model
    8 bytes  the first of the SHA-256 of the model
    the rest is the body

The size stands in front, so a bomb is refused before anything is allocated; the digest is of the model, so neither
damage nor a decoder's mistake passes.
"""

from __future__ import annotations

import hashlib

import zstandard

from data_catalog.errors import CorruptObject

MAGIC = b"ceM"
ZSTD = 0
LEVEL = 19
LARGEST_WINDOW = 27  # log2 of bytes
CHECK = 8  # bytes of the digest


def pack(model: bytes) -> bytes:
    """The object of a model's bytes, whatever they are."""
    return _seal(ZSTD, model, _zstd(model))


def unpack(packed: bytes, size: int, key: str) -> bytes:
    """The model of `pack`.

    Args:
        packed: the object's bytes.
        size: bytes that the model must have.
        key: the object's name, for the error.

    Raises:
        CorruptObject: it is no such object; names it and the remedy.
    """
    try:
        return _open(packed, size)
    except ValueError as error:
        raise CorruptObject(f"{key} is corrupt ({error}); delete that object and publish the model again") from error


def delta(old: bytes, new: bytes) -> bytes:
    """What makes `new` of `old`: for a site that has the old one, where it is smaller than `pack(new)`."""
    return _seal(ZSTD, new, _zstd(new, old))


def apply(old: bytes, delta: bytes, size: int, key: str) -> bytes:
    """The model that `delta` was made for.

    Args:
        old: the model that the site has.
        delta: what `delta` gave for it.
        size: bytes that the new model must have.
        key: the delta's name, for the error.

    Raises:
        CorruptObject: it is no such object, or not for that old model; names it and the remedy.
    """
    try:
        return _open(delta, size, old)
    except ValueError as error:
        raise CorruptObject(f"{key} is corrupt or not for this model ({error}); fetch the whole model") from error


def _seal(form: int, model: bytes, body: bytes) -> bytes:
    return MAGIC + bytes([form]) + _varint(len(model)) + hashlib.sha256(model).digest()[:CHECK] + body


def _open(packed: bytes, size: int, old: bytes = b"") -> bytes:
    if packed[: len(MAGIC)] != MAGIC:
        raise ValueError("no packed model")
    form = packed[len(MAGIC) : len(MAGIC) + 1]
    head = MAGIC + form + _varint(size)
    if packed[: len(head)] != head:
        raise ValueError(f"its frame does not declare the {size} bytes that were promised")
    check, body = packed[len(head) :][:CHECK], packed[len(head) + CHECK :]
    if form != bytes([ZSTD]):
        raise ValueError(f"its form {form.hex()} is unknown; a newer version made it")
    model = _from_zstd(body, size, old)
    if hashlib.sha256(model).digest()[:CHECK] != check:
        raise ValueError("its content has another digest than its frame")
    return model


def _varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first (LEB128)."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _zstd(data: bytes, prefix: bytes = b"") -> bytes:
    size = len(data) + len(prefix)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=size, window_log=min(LARGEST_WINDOW, max(10, size.bit_length())), enable_ldm=True,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False,
    )  # fmt: skip
    return zstandard.ZstdCompressor(dict_data=_raw(prefix), compression_params=parameters).compress(data)


def _raw(prefix: bytes) -> zstandard.ZstdCompressionDict | None:
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None


def _from_zstd(body: bytes, size: int, prefix: bytes = b"") -> bytes:
    if not size and body != _zstd(b"", prefix):  # of an empty frame the library reads the header only
        raise ValueError("not the frame of no bytes")
    unpacker = zstandard.ZstdDecompressor(
        dict_data=_raw(prefix), format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=1 << LARGEST_WINDOW
    )
    try:
        model = unpacker.decompress(body, max_output_size=max(1, size), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(model) != size:
        raise ValueError(f"not the {size} bytes that were promised")
    return model
