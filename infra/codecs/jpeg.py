"""JPEG (ISO/IEC 10918-1) as a lossless codec: for images that the lossy coding `jpeg` has been through.

Those come out of JPEG of the same quality as they went in, and that is tried for each before it is packed. Images that
do not, and the bytes around the tensor, go through Zstandard; where few images do, so does everything.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from infra.codecs import Tensor, _jpeg, _zstandard
from infra.codecs._frame import LENGTH, describe, described, refusing, seal, unseal

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 3  # of Zstandard
TRIED = 8  # images from which the quality is told
LEAST = 0.5  # share of the images that must go through JPEG


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the images, or of the bytes where they are none that JPEG gives back."""
    if tensor and tensor.lies_in(len(data)) and _is_of_images(tensor):
        x = np.frombuffer(data, np.uint8, tensor.bytes, tensor.start).reshape(_shape(tensor))
        quality = _quality(x[:: max(1, len(x) // TRIED)][:TRIED])
        same = _same(x, quality) if quality else np.zeros(len(x), bool)
        if same.mean() >= LEAST:
            strips = _jpeg.encode(x[same], quality)
            rest = data[: tensor.start] + x[~same].tobytes() + data[tensor.start + tensor.bytes :]
            lengths = [LENGTH.pack(len(strip)) for strip in strips]
            flags = np.packbits(same).tobytes()
            return seal(len(data), describe(tensor), flags, *lengths, *strips, _zstandard.pack(rest, LEVEL))
    return seal(len(data), describe(None), _zstandard.pack(data, LEVEL))


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    tensor, body = described(unseal(data, size), size)
    if tensor is None:
        return _zstandard.unpack(body, size)
    if not _is_of_images(tensor):
        raise ValueError("the frame describes a tensor that is not one of images")
    shape = _shape(tensor)
    count = shape[0]
    position = -(-count // 8)
    same = np.unpackbits(np.frombuffer(body[:position], np.uint8), count=count).astype(bool)
    if len(same) != count:
        raise ValueError("the frame is too short")
    strips = []
    with refusing(struct.error, RuntimeError):
        lengths = struct.unpack_from(f"<{len(_jpeg.strip_rows(int(same.sum()), shape[1]))}I", body, position)
        position += LENGTH.size * len(lengths)
        for length in lengths:
            strips.append(body[position : position + length])
            position += length
        x = np.empty(shape, np.uint8)
        x[same] = _jpeg.decode(strips, (int(same.sum()), *shape[1:]))
    image = tensor.bytes // count
    rest = _zstandard.unpack(body[position:], size - image * int(same.sum()))
    end = tensor.start + image * int((~same).sum())
    x[~same] = np.frombuffer(rest[tensor.start : end], np.uint8).reshape(-1, *shape[1:])
    return rest[: tensor.start] + x.tobytes() + rest[end:]


def _is_of_images(tensor: Tensor) -> bool:
    return tensor.dtype == "uint8" and _jpeg.usable(np.broadcast_to(np.uint8(0), tensor.shape))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """(n, height, width, channels)."""
    return tensor.shape if len(tensor.shape) == 4 else (*tensor.shape, 1)


def _quality(x: NDArray[np.uint8]) -> int:
    """The quality at which most of the images come back as they are, the lowest of several; 0: none does."""
    counts = {quality: int(_same(x, quality).sum()) for quality in _jpeg.QUALITIES}
    best = max(counts, key=lambda quality: (counts[quality], -quality))
    return best if counts[best] else 0


def _same(x: NDArray[np.uint8], quality: int) -> NDArray[np.bool_]:
    """Which images JPEG of that quality gives back as they are."""
    back = _jpeg.decode(_jpeg.encode(x, quality), x.shape)
    same: NDArray[np.bool_] = (back == x).reshape(len(x), -1).all(axis=1)
    return same
