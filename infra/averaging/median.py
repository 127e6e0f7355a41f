"""The median of each weight; every site counts once, because a broken one may also say a wrong number of rows.

D. Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def average(stacked: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median over the sites; of an even number the mean of the middle two."""
    middle: NDArray[np.float64] = np.median(stacked, axis=0)
    return middle


def tolerates(sites: int) -> int:
    """Fewer than half."""
    return (sites - 1) // 2
