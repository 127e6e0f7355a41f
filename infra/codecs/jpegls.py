"""JPEG-LS (ISO/IEC 14495-1, LOCO-I) for image shards: small and quick on natural grey images."""

from __future__ import annotations

import imagecodecs

from infra.codecs import Tensor, _images


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the images, or of the bytes where they are none."""
    return _images.pack(data, tensor, imagecodecs.jpegls_encode)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _images.unpack(data, size, imagecodecs.jpegls_decode)
