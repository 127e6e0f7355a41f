"""Brotli at its highest level (RFC 7932): among the smallest, half a megabyte a second; for the slowest links."""

from __future__ import annotations

from infra.codecs import Tensor, _brotli

LEVEL = 11


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A framed stream."""
    return _brotli.pack(data, LEVEL)


decompress = _brotli.unpack
