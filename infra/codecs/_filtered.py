"""A filter on the numbers of a shard, then Zstandard at level 3, in this project's frame.

A filter rearranges the tensor's bytes so that like ones come together; it keeps their number. The bytes around the
tensor stay as they are. Without a tensor everything does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.codecs import ITEM_BYTES, Tensor, _zstandard
from infra.codecs._frame import describe, described, seal, unseal

LEVEL = 3
Numbers = NDArray[np.unsignedinteger[Any]]
Forward = Callable[[Numbers], bytes]  # the tensor, its bits as unsigned integers
Backward = Callable[[bytes, Tensor], bytes]


def pack(data: bytes, tensor: Tensor | None, forward: Forward) -> bytes:
    """The frame of the filtered bytes."""
    if tensor is None or not tensor.lies_in(len(data)):
        return seal(len(data), describe(None), _zstandard.pack(data, LEVEL))
    end = tensor.start + tensor.bytes
    filtered = forward(numbers(data[tensor.start : end], tensor))
    return seal(len(data), describe(tensor), _zstandard.pack(data[: tensor.start] + filtered + data[end:], LEVEL))


def unpack(data: bytes, size: int, backward: Backward) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    tensor, rest = described(unseal(data, size), size)
    plain = _zstandard.unpack(rest, size)
    if tensor is None:
        return plain
    end = tensor.start + tensor.bytes
    return plain[: tensor.start] + backward(plain[tensor.start : end], tensor) + plain[end:]


def numbers(data: bytes, tensor: Tensor) -> Numbers:
    """A read-only view of the tensor's bytes as unsigned integers of the same width, in its shape."""
    return np.frombuffer(data, f"<u{ITEM_BYTES[tensor.dtype]}").reshape(tensor.shape)


def shuffled(x: Numbers) -> bytes:
    """First the lowest byte of each number, then the second, and so on."""
    return x.reshape(-1, 1).view(np.uint8).T.tobytes() if x.itemsize > 1 else x.tobytes()


def unshuffled(data: bytes, width: int) -> bytes:
    """The inverse of `shuffled` for numbers of `width` bytes."""
    return np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes() if width > 1 else data
