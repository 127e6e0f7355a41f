"""Weights of a net as one object: an NPZ of plain arrays, in the net's order, that says nothing but numbers.

What comes from elsewhere is read with care: no pickles, no more bytes than the object has, no names but ours.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import CorruptObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Weights = Sequence[NDArray[np.float32]]


FILE = "weights.npz"  # beside a published variant: what it was quantised from


def pack(weights: Weights) -> bytes:
    """The arrays as the bytes of an NPZ; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{f"w{i:04}": np.asarray(array, np.float32) for i, array in enumerate(weights)})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes, name: str) -> list[NDArray[np.float32]]:
    """What `pack` was given.

    Args:
        data: the bytes.
        name: of the object, for the error.

    Raises:
        CorruptObject: they are something else.
    """
    try:
        return _arrays(data)
    except (ValueError, KeyError, EOFError, OSError, MemoryError, SyntaxError, zipfile.BadZipFile) as error:
        raise CorruptObject(
            f"{name} holds no weights ({' '.join(str(error).split())[:120]}); delete that object and run again"
        ) from error


def _arrays(data: bytes) -> list[NDArray[np.float32]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("it is compressed")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        weights = [file[f"w{i:04}"] for i in range(len(members))]
    if strange := {array.dtype.name for array in weights} - {"float32"}:
        raise ValueError(f"it holds {strange.pop()}")
    return weights


def length(weights: Weights, origin: Weights) -> float:
    """The Euclidean distance between two sets of weights of one net, which says how far training went."""
    squares = (np.square(a.astype(np.float64) - b).sum() for a, b in zip(weights, origin, strict=True))
    return float(np.sqrt(sum(squares)))
