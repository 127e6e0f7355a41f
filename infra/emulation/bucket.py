"""A token bucket: how long what is sent has to wait, so that no more than a rate passes. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

BURST_SECONDS = 0.01  # of the rate may pass at once


@dataclass(slots=True)
class Bucket:
    """What passes in any stretch of `t` seconds is at most `rate * (t + BURST_SECONDS)`, and one chunk more."""

    rate: float  # bytes a second; infinite: nothing waits
    _free: float = -float("inf")  # when all that was let through so far is sent

    def wait(self, size: int, now: float) -> float:
        """Seconds that `size` bytes, which come at `now`, have to wait; later ones wait behind them."""
        self._free = max(self._free, now - BURST_SECONDS) + size / self.rate
        return max(0.0, self._free - now)
