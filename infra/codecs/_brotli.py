"""Brotli streams (RFC 7932) in this project's frame."""

from __future__ import annotations

import imagecodecs

from infra.codecs._frame import exactly, refusing, seal, unseal


def pack(data: bytes, level: int) -> bytes:
    """A framed stream."""
    return seal(len(data), bytes(imagecodecs.brotli_encode(data, level=level)))


def unpack(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    body = unseal(data, size)
    with refusing(RuntimeError):
        return exactly(bytes(imagecodecs.brotli_decode(body, out=size)), size)
