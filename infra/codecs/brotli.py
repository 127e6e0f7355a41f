"""Brotli at level 5 (RFC 7932): between Zstandard's levels 3 and 9."""

from __future__ import annotations

from infra.codecs import Tensor, _brotli

LEVEL = 5


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A framed stream."""
    return _brotli.pack(data, LEVEL)


decompress = _brotli.unpack
