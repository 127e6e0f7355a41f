"""Give images another size, by area or bilinearly: two separable weighted sums over a few lines and columns each.

`area` averages what lies under an output pixel, borders by their share: a box filter, as OpenCV's `INTER_AREA` and
Pillow's `BOX`; it is what shrinking needs. `bilinear` interpolates between the two nearest pixel centres (half-pixel
centres, edges repeated), without averaging: OpenCV's `INTER_LINEAR`, `tf.image.resize` without antialiasing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

VERSION = 1
EXAMPLE = {"height": 5, "width": 3}
EXAMPLE_SHAPE = (8, 8, 1)


def apply(x: NDArray[np.generic], *, height: int, width: int, method: str = "area") -> NDArray[np.generic]:
    """(n, h, w) or (n, h, w, c) to (n, height, width[, c]), the same dtype, integers rounded to nearest.

    Args:
        x: images.
        height: in pixels.
        width: in pixels.
        method: `area` or `bilinear`.

    Raises:
        ValueError: no images, no such method, or a side without a pixel.
    """
    if x.ndim not in (3, 4):
        raise ValueError(f"needs images (height, width, ...), not records of shape {x.shape[1:]}")
    if method not in ("area", "bilinear"):
        raise ValueError(f"no method {method!r}; use area or bilinear")
    if min(height, width, *x.shape[1:3]) < 1:
        raise ValueError(f"cannot make {height} x {width} pixels of {x.shape[1]} x {x.shape[2]}")
    exact = np.float32 if x.dtype.itemsize < 2 else np.float64
    y: NDArray[np.floating] = x.astype(exact, copy=False)
    for axis, size in ((1, height), (2, width)):
        if size != x.shape[axis]:
            y = _weighted(y, axis, *(_area if method == "area" else _bilinear)(x.shape[axis], size))
    if x.dtype.kind in "iu":
        y = np.rint(y)
    return y.astype(x.dtype)


def _weighted(
    x: NDArray[np.floating], axis: int, taps: NDArray[np.intp], weights: NDArray[np.float64]
) -> NDArray[np.floating]:
    """For every output line `i` the sum of lines `taps[k, i]` times `weights[k, i]`; one term after another."""
    shape = [1] * x.ndim
    shape[axis] = taps.shape[1]
    total: NDArray[np.floating] = np.take(x, taps[0], axis) * weights[0].astype(x.dtype).reshape(shape)
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        total += np.take(x, tap, axis) * weight.astype(x.dtype).reshape(shape)
    return total


def _area(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Output pixel `i` covers [i, i + 1) * old / new: which pixels lie in it, and the share of each."""
    edges = np.arange(new + 1) * old / new
    first = np.floor(edges[:-1]).astype(np.intp)
    taps = first + np.arange(int(np.ceil(old / new)) + 1)[:, None]
    covered = np.minimum(taps + 1, edges[1:]) - np.maximum(taps, edges[:-1])
    weights = np.clip(covered, 0, None) * new / old
    return np.minimum(taps, old - 1), weights


def _bilinear(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The two pixels whose centres lie around the output's, and how near each is."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    first = np.floor(centre).astype(np.intp)
    share = centre - first
    return np.stack([first, np.minimum(first + 1, old - 1)]), np.stack([1 - share, share])
