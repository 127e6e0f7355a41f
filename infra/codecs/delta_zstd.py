"""Differences, byte shuffle, then Zstandard: for series and images, whose neighbours are alike.

The difference is along the axis before the last: from time to time of a window (time, channel), from row to row of a
table, from pixel to pixel of an image (height, width, channel). It is taken of the bits as integers, modulo their
range, so it is exact for floats too.
"""

from __future__ import annotations

import numpy as np

from infra.codecs import ITEM_BYTES, Tensor, _filtered


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the shuffled differences."""
    return _filtered.pack(data, tensor, _forward)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _filtered.unpack(data, size, _backward)


def _rows(x: _filtered.Numbers) -> _filtered.Numbers:
    """(blocks, steps, numbers a step): differences are along the second axis."""
    steps, width = (x.shape[-2], x.shape[-1]) if x.ndim > 1 else (x.shape[0], 1)
    return x.reshape(-1, steps, width)


def _forward(x: _filtered.Numbers) -> bytes:
    rows = _rows(x)
    difference = rows.copy()
    difference[:, 1:] -= rows[:, :-1]
    return _filtered.shuffled(difference)


def _backward(data: bytes, tensor: Tensor) -> bytes:
    difference = _filtered.numbers(_filtered.unshuffled(data, ITEM_BYTES[tensor.dtype]), tensor)
    return np.cumsum(_rows(difference), axis=1, dtype=difference.dtype).tobytes()
