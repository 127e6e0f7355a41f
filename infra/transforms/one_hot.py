"""A column of category numbers to one column a category: 1 where the value is that category, else 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VERSION = 1
EXAMPLE = {"column": 2, "values": list(range(256))}


def apply(x: NDArray[np.generic], *, column: int, values: Sequence[float]) -> NDArray[np.generic]:
    """(n, f) to (n, f - 1 + len(values)), the same dtype, the new columns where the old one was.

    Args:
        x: records of f values.
        column: which is the category, from 0.
        values: the categories, in the order of their columns.

    Raises:
        ValueError: no such column, a category twice, or a record of another category.
    """
    if x.ndim != 2 or not 0 <= column < x.shape[1]:
        raise ValueError(f"no column {column} in records of shape {x.shape[1:]}")
    if len(set(values)) != len(values) or not values:
        raise ValueError("`values` must name every category once")
    hot = x[:, column, None] == np.asarray(values)
    if not (known := hot.any(axis=1)).all():
        raise ValueError(f"column {column} holds {x[~known, column][0]}, which `values` does not name")
    return np.concatenate([x[:, :column], hot.astype(x.dtype), x[:, column + 1 :]], axis=1)
