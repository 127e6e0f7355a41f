"""Bit rounding of floats (Klöwer et al., Compressing atmospheric data into its real information content, 2021).

The mantissa keeps `bits` bits, rounded to nearest and ties to even; the rest are zeros, which lossless codecs carry
for almost nothing. The relative error of a normal number is at most 2**-(bits + 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
EXAMPLE = {"bits": 7}
MANTISSA = {"float32": 23, "float64": 52}
DTYPES = tuple(MANTISSA)


def apply(x: NDArray[np.generic], bits: int) -> NDArray[np.generic]:
    """The values with so many bits of mantissa.

    Args:
        x: (n, ...) float32 or float64.
        bits: at least 1, at most what the dtype has.

    Raises:
        ValueError: the records are not floats, or have no such number of bits.
    """
    if x.dtype.name not in MANTISSA:
        raise ValueError(f"it rounds float32 and float64, not {x.dtype.name}")
    all_bits = MANTISSA[x.dtype.name]
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= all_bits:
        raise ValueError(f"`bits` must be a whole number from 1 to {all_bits}, not {bits!r}")
    dropped = all_bits - bits
    if not dropped:
        return x
    raw = np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")
    one = raw.dtype.type(1)
    odd = (raw >> raw.dtype.type(dropped)) & one
    with np.errstate(over="ignore"):
        rounded = (raw + odd + raw.dtype.type((1 << dropped - 1) - 1)) & ~raw.dtype.type((1 << dropped) - 1)
    result: NDArray[np.generic] = rounded.view(x.dtype).reshape(x.shape)
    kept = ~np.isfinite(x) | ~np.isfinite(result)  # the largest numbers would round to infinity
    return np.where(kept, x, result) if kept.any() else result
