"""Give every record a shape, e.g. 784 values as a 28 x 28 image of one channel."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
EXAMPLE = {"shape": [8, 8, 1]}


def apply(x: NDArray[np.generic], *, shape: Sequence[int]) -> NDArray[np.generic]:
    """(n, ...) to (n, *shape), the values untouched; ValueError if they do not fit."""
    if x[:1].size and prod(shape) != x[0].size:
        raise ValueError(f"{x[0].size} values do not fit the shape {tuple(shape)}")
    return x.reshape((len(x), *shape))
