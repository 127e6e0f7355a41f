"""Zstandard at level 3 with a content checksum (RFC 8878).

On uint8 images level 3 reaches zlib's ratio at seven times its speed, and higher levels gain under 10 %
for ten times the work (`docs/benchmarks.md`).
"""

from __future__ import annotations

import zstandard

LEVEL = 3


def compress(data: bytes) -> bytes:
    """One frame with its content size and checksum."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(data)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or does not declare `size` bytes."""
    try:
        declared = zstandard.frame_content_size(data)
        if declared != size:  # checked before anything is allocated: a bomb is refused here
            raise ValueError(f"the frame declares {declared} bytes where {size} were promised")
        if not size and data != compress(b""):  # of an empty frame the library reads the header only
            raise ValueError("not the frame of no bytes")
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes where {size} were promised")
    return plain
