"""Zstandard at its first fast level: for links of a gigabit and more (RFC 8878)."""

from __future__ import annotations

from infra.codecs import Tensor, _zstandard

LEVEL = -1


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """One frame with its content size and checksum."""
    return _zstandard.pack(data, LEVEL)


decompress = _zstandard.unpack
