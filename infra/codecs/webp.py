"""WebP (RFC 9649), lossless, for image shards of three channels."""

from __future__ import annotations

from functools import partial

import imagecodecs

from infra.codecs import Tensor, _images


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the images, or of the bytes where they are none."""
    return _images.pack(
        data, tensor, partial(imagecodecs.webp_encode, lossless=True, level=1, numthreads=1), (3,), ("uint8",)
    )


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _images.unpack(data, size, imagecodecs.webp_decode)
