"""The mean of each weight without the lowest and the highest quarter, of three sites or more without at least one each.

Every site counts once, because a broken one may also say a wrong number of rows. D. Yin et al., Byzantine-Robust
Distributed Learning: Towards Optimal Statistical Rates, ICML 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def average(stacked: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean over the sites that are left for each weight."""
    cut = tolerates(len(stacked))
    left = np.sort(stacked, axis=0)[cut : len(stacked) - cut]
    mean: NDArray[np.float64] = np.clip(left.mean(axis=0), left[0], left[-1])  # of rounding
    return mean


def tolerates(sites: int) -> int:
    """A quarter, and one of three."""
    return max(sites // 4, 1 if sites >= 3 else 0)
