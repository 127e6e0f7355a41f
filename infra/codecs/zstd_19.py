"""Zstandard at level 19 with long-distance matching (RFC 8878), as `zstd -19 --long`: for slow links.

It works on one thread: zstd shares a frame among threads only from 32 MiB on, and shards are compressed side by side.
"""

from __future__ import annotations

import zstandard

from infra.codecs import Tensor, _zstandard

LEVEL = 19
LARGEST_WINDOW = 27  # log2 of bytes; more is refused by decoders unless they are asked to


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """One frame with its content size and checksum."""
    window = min(LARGEST_WINDOW, max(10, len(data).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=len(data), window_log=window, enable_ldm=True, write_checksum=True, write_content_size=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


decompress = _zstandard.unpack
