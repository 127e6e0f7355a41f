"""Change the dtype, refusing values that the new one cannot hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

VERSION = 1
EXAMPLE = {"dtype": "float32"}


def apply(x: NDArray[np.generic], *, dtype: str) -> NDArray[np.generic]:
    """The same values as `dtype`.

    Raises:
        ValueError: `dtype` is unknown, or an integer dtype would change a value.
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"unknown dtype {dtype!r}") from error
    with np.errstate(invalid="ignore"):
        cast = x.astype(wanted)
    if np.issubdtype(wanted, np.integer) and not np.array_equal(cast, x):
        raise ValueError(f"values would change as {dtype}")
    return cast
