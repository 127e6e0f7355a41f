"""DEFLATE (RFC 1951) by zlib, in the gzip format (RFC 1952): what every tool can open."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from infra.codecs._frame import exactly, refusing

if TYPE_CHECKING:
    from infra.codecs import Tensor

LEVEL = 6
GZIP = 16 + zlib.MAX_WBITS
SHORTEST = 18  # bytes of header and trailer


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """One member, without name and time."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(data) + packer.flush()


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the member is damaged, is not alone, or declares another size."""
    if len(data) < SHORTEST or int.from_bytes(data[-4:], "little") != size % 2**32:
        raise ValueError(f"the trailer does not declare the {size} bytes that were promised")
    unpacker = zlib.decompressobj(GZIP)
    with refusing(zlib.error):
        plain = unpacker.decompress(data, size + 1)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("not one whole member")
    return exactly(plain, size)
