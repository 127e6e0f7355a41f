"""Lossless image coding of the records of a shard, in this project's frame.

The records are laid side by side on sheets of about a million pixels: a coder's headers and its learning then cost
little, however small a record is, and a sheet's memory is bounded. What does not look like images, and the bytes
around the tensor, go through Zstandard.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.codecs import Tensor, _zstandard
from infra.codecs._frame import LENGTH, describe, described, refusing, seal, unseal

LEVEL = 3  # of Zstandard
SIDE = 1024  # of a sheet, in pixels, unless one image is larger
LARGEST = 16383  # pixels a side that every coder here can take
Pixels = NDArray[np.generic]
Encode = Callable[[Pixels], Any]
Decode = Callable[..., Any]  # (data, out=array of the right shape and dtype)


def pack(
    data: bytes,
    tensor: Tensor | None,
    encode: Encode,
    channels: Collection[int] = (1, 3),
    dtypes: Collection[str] = ("uint8", "uint16"),
) -> bytes:
    """The frame of the encoded sheets.

    Args:
        data: the bytes of a shard.
        tensor: where its images lie: (n, height, width) or (n, height, width, channels).
        encode: from a sheet, (height, width) or (height, width, channels), to bytes.
        channels: how many the coder can take.
        dtypes: those that it can take.
    """
    if tensor is None or not _suits(tensor, len(data), channels, dtypes):
        return seal(len(data), describe(None), _zstandard.pack(data, LEVEL))
    end = tensor.start + tensor.bytes
    images = np.frombuffer(data, f"<{tensor.dtype[0]}{_width(tensor)}", tensor.bytes // _width(tensor), tensor.start)
    try:
        encoded = [bytes(encode(sheet[..., 0] if sheet.shape[2] == 1 else sheet)) for sheet in _lay(images, tensor)]
    except RuntimeError:  # JPEG-LS has no room for what noise grows to
        return pack(data, None, encode)
    rest = _zstandard.pack(data[: tensor.start] + data[end:], LEVEL)
    lengths = [LENGTH.pack(len(part)) for part in encoded]
    return seal(len(data), describe(tensor), *lengths, *encoded, rest)


def unpack(data: bytes, size: int, decode: Decode) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    tensor, body = described(unseal(data, size), size)
    if tensor is None:
        return _zstandard.unpack(body, size)
    if not _suits(tensor, size, (1, 3), ("uint8", "uint16")):
        raise ValueError("the frame describes a tensor that is not one of images")
    height, width, channels = _image(tensor)
    sheets, rows, columns = _layout(tensor)
    shape = (rows * height, columns * width) + ((channels,) if channels > 1 else ())
    laid = np.empty((sheets, *shape), tensor.dtype)
    position = LENGTH.size * sheets
    with refusing(RuntimeError, struct.error):
        for sheet, length in enumerate(struct.unpack_from(f"<{sheets}I", body)):
            decode(body[position : position + length], out=laid[sheet])  # refuses another shape before it allocates
            position += length
    rest = _zstandard.unpack(body[position:], size - tensor.bytes)
    return rest[: tensor.start] + _take(laid, tensor) + rest[tensor.start :]


def _width(tensor: Tensor) -> int:
    return np.dtype(tensor.dtype).itemsize


def _suits(tensor: Tensor, size: int, channels: Collection[int], dtypes: Collection[str]) -> bool:
    if not tensor.lies_in(size) or tensor.dtype not in dtypes or len(tensor.shape) not in {3, 4}:
        return False
    height, width, depth = _image(tensor)
    return max(height, width) <= LARGEST and depth in channels


def _image(tensor: Tensor) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    return tensor.shape[1], tensor.shape[2], tensor.shape[3] if len(tensor.shape) == 4 else 1


def _layout(tensor: Tensor) -> tuple[int, int, int]:
    """Sheets, and the rows and columns of images on each."""
    count, (height, width, _) = tensor.shape[0], _image(tensor)
    columns = min(max(1, SIDE // width), count)
    rows = min(max(1, SIDE // height), ceil(count / columns))
    return ceil(count / (rows * columns)), rows, columns


def _lay(images: Pixels, tensor: Tensor) -> Pixels:
    """(sheets, height, width, channels), the last filled up with zeros."""
    (height, width, channels), (sheets, rows, columns) = _image(tensor), _layout(tensor)
    places = np.zeros((sheets * rows * columns, height, width, channels), images.dtype)
    places[: tensor.shape[0]] = images.reshape(-1, height, width, channels)
    grid = places.reshape(sheets, rows, columns, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(grid).reshape(sheets, rows * height, columns * width, channels)


def _take(laid: Pixels, tensor: Tensor) -> bytes:
    """The inverse of `_lay`, as bytes."""
    (height, width, channels), (sheets, rows, columns) = _image(tensor), _layout(tensor)
    grid = laid.reshape(sheets, rows, height, columns, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(-1, height, width, channels)[: tensor.shape[0]].tobytes()
