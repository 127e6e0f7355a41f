"""Colour images to grey: the luma of ITU-R BT.601, in the integers that Pillow's mode `L` uses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

VERSION = 1
EXAMPLE: dict[str, object] = {}
EXAMPLE_SHAPE = (4, 4, 3)
WEIGHTS = (19595, 38470, 7471)  # 0.299, 0.587 and 0.114 in 1/65536; they add up to one


def apply(x: NDArray[np.generic]) -> NDArray[np.generic]:
    """(n, h, w, 3) red, green, blue to (n, h, w, 1), the same dtype; integers of at most 16 bits are rounded to nearest.

    Raises:
        ValueError: no three channels, or wider integers.
    """
    if x.ndim != 4 or x.shape[-1] != 3:
        raise ValueError(f"needs images (height, width, 3), not records of shape {x.shape[1:]}")
    if x.dtype.kind == "f":
        return (_summed(x.astype(np.float64, copy=False)) / 65536).astype(x.dtype)[..., None]  # type: ignore[no-any-return]
    if x.dtype.itemsize > 2:
        raise ValueError(f"{x.dtype} is too wide; cast to 16 bits or to a float before")
    whole = x.astype(np.int32 if x.dtype.itemsize == 1 else np.int64)
    return ((_summed(whole) + 32768) >> 16).astype(x.dtype)[..., None]  # type: ignore[no-any-return]


def _summed(x: Any) -> Any:
    return x[..., 0] * WEIGHTS[0] + x[..., 1] * WEIGHTS[1] + x[..., 2] * WEIGHTS[2]
