"""LZW as in TIFF (Welch 1984; TIFF 6.0, section 13) in this project's frame: here for comparison with old formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagecodecs

from infra.codecs._frame import exactly, refusing, seal, unseal

if TYPE_CHECKING:
    from infra.codecs import Tensor


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A framed stream."""
    return seal(len(data), bytes(imagecodecs.lzw_encode(data)))


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    body = unseal(data, size)
    with refusing(RuntimeError):
        plain = imagecodecs.lzw_decode(body, out=size + 1)  # it stops without a word where `out` is full
    return exactly(bytes(plain), size)
