"""For training only: each record once more, shifted, mirrored or noisy, by numbers that follow from its seed.

Numbers come from splitmix64 (G. L. Steele, D. Lea, C. H. Flood, Fast Splittable Pseudorandom Number Generators,
2014), which makes the i-th of a seed without those before it, so a record's view depends on no other record.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

VERSION = 1
EXAMPLE = {"shift": 1, "flip": True, "noise": 3.0}
EXAMPLE_SHAPE = (8, 8, 1)


def augment(
    x: NDArray[np.generic], seeds: NDArray[np.uint64], *, shift: int = 0, flip: bool = False, noise: float = 0.0
) -> NDArray[np.generic]:
    """(n, ...) to another view of each record, the same shape and dtype.

    Args:
        x: images (h, w, c), signals (t, c) or vectors (t,).
        seeds: (n,) of the records.
        shift: up to so many pixels or samples each way, along every axis but the channels; edges are repeated.
        flip: mirror every second record: images left to right, signals in time.
        noise: standard deviation of normal noise, in the values' own unit; integers are rounded and clipped.

    Raises:
        ValueError: a negative setting.
    """
    if shift < 0 or noise < 0:
        raise ValueError("`shift` and `noise` cannot be negative")
    axes = range(1, max(2, x.ndim - 1))
    draws = _uniform(seeds, len(axes) + 1)
    y = x
    if shift:
        for number, axis in enumerate(axes):
            y = _shifted(y, axis, np.floor(draws[:, number] * (2 * shift + 1)).astype(np.intp) - shift)
    if flip:
        mirrored = np.flip(y, axis=axes[-1])
        y = np.where((draws[:, -1] < 0.5).reshape(-1, *[1] * (x.ndim - 1)), mirrored, y)
    if noise:
        y = _noisy(y, seeds, noise)
    return y.copy() if y is x else y


def _uniform(seeds: NDArray[np.uint64], count: int, start: int = 0) -> NDArray[np.float64]:
    """(n, count) numbers in [0, 1), numbers `start` and on of each seed's sequence."""
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = seeds[:, None] + steps
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(bits))) * np.uint64(factor)
    numbers: NDArray[np.float64] = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return numbers


def _shifted(x: NDArray[np.generic], axis: int, by: NDArray[np.intp]) -> NDArray[np.generic]:
    places = np.clip(np.arange(x.shape[axis]) + by[:, None], 0, x.shape[axis] - 1)
    shape = [len(x), *[1] * (x.ndim - 1)]
    shape[axis] = x.shape[axis]
    return np.take_along_axis(x, places.reshape(shape), axis)


def _noisy(x: NDArray[np.generic], seeds: NDArray[np.uint64], noise: float) -> NDArray[np.generic]:
    """Normal noise by the transform of Box and Muller, 1958."""
    values = int(np.prod(x.shape[1:]))
    draws = _uniform(seeds, 2 * values, 64)  # the first are for shifts and the mirror
    normal = np.sqrt(-2 * np.log1p(-draws[:, :values])) * np.cos(2 * np.pi * draws[:, values:])
    y: NDArray[np.generic] = x + noise * normal.reshape(x.shape)
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype.name)
        y = np.clip(np.rint(y), limits.min, limits.max)
    noisy: NDArray[np.generic] = y.astype(x.dtype)
    return noisy
