"""LZMA2 at preset 6, as in .xz files, in this project's frame: small, and slow both ways; for the slowest links.

Raw and with filters that are fixed here, so that no object can ask the decoder for a larger dictionary.
"""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from infra.codecs._frame import exactly, refusing, seal, unseal

if TYPE_CHECKING:
    from infra.codecs import Tensor

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A framed raw stream."""
    return seal(len(data), lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS))


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    body = unseal(data, size)
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    with refusing(lzma.LZMAError, EOFError):
        plain = unpacker.decompress(body, size + 1)
    return exactly(plain, size)
