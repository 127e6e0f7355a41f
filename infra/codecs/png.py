"""PNG (ISO/IEC 15948) for image shards: DEFLATE of what the neighbours do not predict."""

from __future__ import annotations

from functools import partial

import imagecodecs

from infra.codecs import Tensor, _images


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the images, or of the bytes where they are none."""
    return _images.pack(data, tensor, partial(imagecodecs.png_encode, level=6))


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _images.unpack(data, size, imagecodecs.png_decode)
