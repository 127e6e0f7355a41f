"""JPEG XL (ISO/IEC 18181-1), lossless at its fastest effort, for image shards."""

from __future__ import annotations

from functools import partial

import imagecodecs

from infra.codecs import Tensor, _images


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the images, or of the bytes where they are none."""
    return _images.pack(data, tensor, partial(imagecodecs.jpegxl_encode, lossless=True, effort=1, numthreads=1))


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _images.unpack(data, size, partial(imagecodecs.jpegxl_decode, numthreads=1))
