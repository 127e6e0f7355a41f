"""Bring values to one scale by fitted statistics: mean and standard deviation, or lowest and highest value.

Mean and variance of blocks are merged as in T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae and a Pairwise
Algorithm for Computing Sample Variances, 1979. Statistics are kept to seven digits, what float32 holds, so that they
do not depend on the order of additions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

VERSION = 1
EXAMPLE = {"method": "standard", "by": "value"}
KEYS = {"standard": ("mean", "std"), "range": ("low", "high")}


def fit(
    blocks: Iterable[NDArray[np.generic]],
    *,
    method: str = "standard",
    by: str = "value",
    dtype: str = "float32",
) -> dict[str, Any]:
    """The statistics of all records, in one pass; settings as of `apply`.

    Returns:
        Two lists, `mean` and `std` (population; 1 where nothing varies) or `low` and `high`, of one number for each
        value of a record, for each channel, or of one for all.

    Raises:
        ValueError: no record at all, or wrong settings.
    """
    _check(method, by, dtype)
    count, first, second = 0, np.zeros(0), np.zeros(0)
    for block in blocks:
        if not len(block):
            continue
        rows = _columns(block, by).astype(np.float64)
        size = len(rows)
        if method == "range":
            low, high = rows.min(axis=0), rows.max(axis=0)
            first, second = (np.minimum(first, low), np.maximum(second, high)) if count else (low, high)
        else:
            mean = rows.mean(axis=0)
            squares = ((rows - mean) ** 2).sum(axis=0)
            if count:
                apart = mean - first
                squares = second + squares + apart**2 * (count * size / (count + size))
                mean = first + apart * (size / (count + size))
            first, second = mean, squares
        count += size
    if not count:
        raise ValueError("there is no record to fit it on")
    if method == "standard":
        second = np.sqrt(second / count)
        second[second <= 1e-7 * np.abs(first)] = 1.0
    names = KEYS[method]
    return {names[0]: _seven_digits(first), names[1]: _seven_digits(second)}


def apply(
    x: NDArray[np.generic],
    *,
    statistics: dict[str, Any] | None = None,
    method: str = "standard",
    by: str = "value",
    dtype: str = "float32",
) -> NDArray[np.generic]:
    """(n, ...) of any dtype to the same shape.

    Args:
        x: records.
        statistics: what `fit` gives.
        method: `standard` is (x - mean) / std; `range` maps [low, high] to [0, 1], values outside to its ends.
        by: statistics for each `value` of a record, for each `channel` (the last axis), or one for `all`.
        dtype: `float32`; or, for `range`, `uint8`: then [0, 1] becomes 0 to 255, rounded to nearest.

    Raises:
        ValueError: it was not fitted, or wrong settings.
    """
    _check(method, by, dtype)
    if statistics is None:
        raise ValueError("it is not fitted; give it `statistics`")
    columns = _columns(x, by)
    try:
        first, second = (np.asarray(statistics[key], np.float64) for key in KEYS[method])
    except KeyError as error:
        raise ValueError(f"`statistics` lacks {error}") from error
    if first.shape != (columns.shape[1],) or second.shape != first.shape:
        raise ValueError(
            f"`statistics` holds {first.size} and {second.size} numbers where {columns.shape[1]} are needed"
        )
    exact = np.float64 if x.dtype.itemsize > 4 or (x.dtype.kind in "iu" and x.dtype.itemsize > 2) else np.float32
    scale = second if method == "standard" else np.where(second > first, second - first, 1.0)
    y: NDArray[np.generic] = (columns.astype(exact) - first.astype(exact)) / scale.astype(exact)
    if method == "range":
        y = np.clip(y, 0, 1)
    if dtype == "uint8":
        y = np.rint(y * 255)
    scaled: NDArray[np.generic] = y.astype(dtype, copy=False).reshape(x.shape)
    return scaled


def _check(method: str, by: str, dtype: str) -> None:
    if method not in KEYS:
        raise ValueError(f"no method {method!r}; use standard or range")
    if by not in ("value", "channel", "all"):
        raise ValueError(f"cannot normalise by {by!r}; use value, channel or all")
    if dtype != "float32" and (dtype, method) != ("uint8", "range"):
        raise ValueError(f"cannot give {dtype!r} by method {method!r}; use float32, or uint8 by range")


def _columns(x: NDArray[np.generic], by: str) -> NDArray[np.generic]:
    """(rows, columns): what has statistics of its own is a column."""
    if by == "value":
        return x.reshape(len(x), int(np.prod(x.shape[1:])))
    return x.reshape(-1, x.shape[-1] if by == "channel" else 1)


def _seven_digits(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.7g}") for value in values]
