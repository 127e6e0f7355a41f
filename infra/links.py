"""A link from timed transfers of several sizes: seconds = latency + bytes / rate, fitted so that an odd one does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

APART = 8  # sizes that differ by less than the largest over this say nothing of the rate
MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a link, with the variances of single transfers."""

    latency_seconds: float
    bytes_per_second: float
    latency_variance: float
    rate_variance: float


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> Link:
    """The line through the transfers, by the median of the slopes between pairs (H. Theil, 1950; P. Sen, 1968).

    One transfer may take any time whatever, and it stays where it is. The latency is the median of what the rate
    leaves over; if the larger transfers were not slower, the rate is that of the largest, latency included.

    Args:
        sizes: bytes of each transfer, of two sizes at least.
        seconds: of each, above 0.
    """
    x, y = np.array(sizes, float), np.array(seconds, float)
    first, second = np.triu_indices(len(x), 1)
    wide = np.abs(x[second] - x[first]) * APART >= x.max()
    slopes = (y[second] - y[first])[wide] / (x[second] - x[first])[wide]
    slope = float(np.median(slopes))
    if slope <= 0:
        slope = float(y[x.argmax()] / x.max())
    latency = max(0.0, float(np.median(y - slope * x)))
    off = y - slope * x - latency
    large = x * APART >= x.max()
    rates = x[large] / np.maximum(y[large] - latency, slope * x[large] / APART)
    return Link(
        latency_seconds=latency,
        bytes_per_second=1 / slope,
        latency_variance=float(MAD * np.median(np.abs(off))) ** 2,
        rate_variance=float(MAD * np.median(np.abs(rates - 1 / slope))) ** 2,
    )
