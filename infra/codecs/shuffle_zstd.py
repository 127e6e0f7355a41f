"""Byte shuffle, as in HDF5, then Zstandard: for numbers of several bytes whose high bytes hardly change."""

from __future__ import annotations

from infra.codecs import ITEM_BYTES, Tensor, _filtered


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of the shuffled tensor."""
    return _filtered.pack(data, tensor, _filtered.shuffled)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    return _filtered.unpack(data, size, lambda part, tensor: _filtered.unshuffled(part, ITEM_BYTES[tensor.dtype]))
