"""Zstandard at level 3 with a content checksum (RFC 8878).

On uint8 images level 3 reaches zlib's ratio at seven times its speed, and higher levels gain under 10 %
for ten times the work (`docs/benchmarks.md`).
"""

from __future__ import annotations

from infra.codecs import Tensor, _zstandard

LEVEL = 3


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """One frame with its content size and checksum."""
    return _zstandard.pack(data, LEVEL)


decompress = _zstandard.unpack
