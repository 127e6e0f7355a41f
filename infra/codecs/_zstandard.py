"""Zstandard frames with content size and checksum (RFC 8878), for all codecs that end in one."""

from __future__ import annotations

import zstandard

EMPTY = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(b"")  # at every level the same


def pack(data: bytes, level: int) -> bytes:
    """One frame, which any zstd program can open."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True).compress(data)


def unpack(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or does not declare `size` bytes."""
    try:
        declared = zstandard.frame_content_size(data)
        if declared != size:  # checked before anything is allocated: a bomb is refused here
            raise ValueError(f"the frame declares {declared} bytes where {size} were promised")
        if not size and data != EMPTY:  # of an empty frame the library reads the header only
            raise ValueError("not the frame of no bytes")
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes where {size} were promised")
    return plain
