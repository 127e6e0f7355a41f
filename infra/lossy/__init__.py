"""Lossy coding: fewer bits in the values, for a dataset that asks for it by name (`lossy`), never by the planner.

It happens to the preprocessed records before they are encoded: a shard's digest is of the values after it, the model
is trained and measured on them, and any lossless codec carries them. What ran is part of the preprocessing digest,
and the largest error that was measured is in the shard index.

The contract of a module here:

- `VERSION`, raised whenever the output changes; `DTYPES` that it takes, and `EXAMPLE` settings, for the suite;
- `apply(x, **settings)` gives the records with fewer bits: same shape, same dtype, NaN and infinities as they are;
  applied again it changes nothing;
- `ValueError` for records or settings that it cannot use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from infra.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Lossy(Protocol):
    """What a module of lossy coding offers."""

    VERSION: int
    DTYPES: tuple[str, ...]
    EXAMPLE: dict[str, Any]

    def apply(self, x: NDArray[np.generic], **settings: Any) -> NDArray[np.generic]:
        """The records, (n, ...), with fewer bits."""
        ...


LOSSY: Registry[Lossy] = Registry(__name__, "lossy coding")


def largest_error(x: NDArray[np.generic], coded: NDArray[np.generic]) -> float:
    """The largest absolute difference of two arrays of one shape; NaN and infinities must be where they were.

    Raises:
        ValueError: they are not.
    """
    before, after = x.astype(np.float64), coded.astype(np.float64)
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True) or not np.isfinite(after[finite]).all():
        raise ValueError("values became NaN or infinite")
    return float(np.abs(before[finite] - after[finite]).max(initial=0.0))
