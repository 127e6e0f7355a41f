"""A link from timed transfers of several sizes: seconds = latency + bytes / rate, fitted so that an odd one does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.orders import Sending

if TYPE_CHECKING:
    from collections.abc import Sequence

Transfer = tuple[float, float, int]  # of an object: when it began and ended, in seconds, and its bytes
UPLOADS = 2  # at a time: while one waits for the store's answer, the other fills the link
ENOUGH_SECONDS = 0.25  # that a link was busy, to say something of its rate
LEAST_OBJECT = 64 << 10  # mean bytes of an object; the time of smaller ones is all latency
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


def sending(transfers: Sequence[Transfer]) -> Sending | None:
    """Several streams as one; the time in which none was under way does not count, for the link waited for others then."""
    busy, until = 0.0, float("-inf")
    for begin, end, _ in sorted(transfers):
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    size = sum(size for _, _, size in transfers)
    return Sending(objects=len(transfers), bytes=size, seconds=busy) if transfers else None


def sending_rate(sent: Sending, latency: float) -> float | None:
    """Bytes a second of the link that was filled; None if too little crossed it to say, or latency was most of the time.

    Args:
        sent: by `UPLOADS` streams, each of which hides the latency of the other.
        latency: seconds of a request without content.
    """
    working = sent.seconds - sent.objects * latency / UPLOADS
    if sent.bytes < LEAST_OBJECT * sent.objects or working < max(ENOUGH_SECONDS, sent.seconds / 2):
        return None
    return sent.bytes / working
