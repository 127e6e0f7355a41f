"""JPEG there and back on images of 8 bits, for the lossy coding `jpeg` and the codec that carries what it leaves.

Images stand on strips, each filled up to whole blocks of 8 x 8 pixels by repeating its edge, and the colours keep their
full resolution: so no image changes another.
"""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.generic]  # (n, height, width, 1 or 3) uint8
QUALITIES = (50, 60, 70, 75, 80, 85, 90, 95)
BLOCK = 8
STRIP = 16384  # most rows of pixels; JPEG has 16 bits for them
WIDEST = 16383


def usable(x: NDArray[np.generic]) -> bool:
    """Whether the records look like images: (n, height, width) or (n, height, width, 1 or 3) uint8."""
    sides = x.shape[1:3] if x.ndim in {3, 4} else ()
    return x.dtype == np.uint8 and bool(sides) and max(sides) <= WIDEST and (x.ndim == 3 or x.shape[3] in {1, 3})


def strip_rows(count: int, height: int) -> list[int]:
    """How many images of so many rows of pixels stand on each strip."""
    most = max(1, STRIP // _whole(height))
    return [min(most, count - first) for first in range(0, count, most)]


def encode(x: Images, quality: int) -> list[bytes]:
    """The strips of the images as JPEG (ISO/IEC 10918-1)."""
    height, width = x.shape[1:3]
    padding = ((0, 0), (0, _whole(height) - height), (0, _whole(width) - width), (0, 0))
    padded = np.pad(x, padding, mode="edge")
    strips, first = [], 0
    for rows in strip_rows(len(x), height):
        strip = padded[first : first + rows].reshape(-1, _whole(width), x.shape[3])
        plane = strip[..., 0] if x.shape[3] == 1 else strip
        strips.append(bytes(imagecodecs.jpeg8_encode(plane, level=quality, subsampling="444", optimize=True)))
        first += rows
    return strips


def decode(strips: list[bytes], shape: tuple[int, ...]) -> Images:
    """The images of `encode`, (n, height, width, channels); ValueError or RuntimeError if they are not of that shape."""
    count, height, width, channels = shape
    laid: NDArray[Any] = np.empty((count, _whole(height), _whole(width), channels), np.uint8)
    first = 0
    for strip, rows in zip(strips, strip_rows(count, height), strict=True):
        place = laid[first : first + rows].reshape(-1, _whole(width), channels)
        imagecodecs.jpeg8_decode(strip, out=place[..., 0] if channels == 1 else place)
        first += rows
    return laid[:, :height, :width]


def _whole(side: int) -> int:
    return -(-side // BLOCK) * BLOCK
