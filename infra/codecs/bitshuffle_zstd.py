"""Bit shuffle (Masui et al., 2015), then Zstandard: for numbers of which few bits change."""

from __future__ import annotations

import imagecodecs

from infra.codecs import ITEM_BYTES, Tensor, _filtered

EIGHT = 8  # bitshuffle works on groups of eight numbers; what is left over stays as it is


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the shuffled tensor."""
    return _filtered.pack(data, tensor, _forward)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _filtered.unpack(data, size, _backward)


def _forward(x: _filtered.Numbers) -> bytes:
    data = x.tobytes()
    whole = x.size // EIGHT * EIGHT * x.itemsize
    return bytes(imagecodecs.bitshuffle_encode(data[:whole], itemsize=x.itemsize)) + data[whole:] if whole else data


def _backward(data: bytes, tensor: Tensor) -> bytes:
    width = ITEM_BYTES[tensor.dtype]
    whole = len(data) // width // EIGHT * EIGHT * width
    return bytes(imagecodecs.bitshuffle_decode(data[:whole], itemsize=width)) + data[whole:] if whole else data
