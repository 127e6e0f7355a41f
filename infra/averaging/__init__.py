"""Averages of weight updates: how the coordinator of a federation makes one of many. A module here, two functions.

The contract: `average(stacked, rows)` is pure and does not depend on the order of the sites; every value lies between
the smallest and the largest that a site sent for it; of one update it is that update. `tolerates(sites)` says how many
of that many sites may send anything at all, while every value still lies between those that the others sent.

What is no update of this model at all (not finite, of other shapes, absurdly long) never reaches an average: see
`infra/federation.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Average(Protocol):
    """What an averaging module offers."""

    def average(self, stacked: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """One array of weights from those of all sites.

        Args:
            stacked: (sites, ...), finite.
            rows: (sites,), what each was trained on, at least 1.

        Returns:
            (...).
        """
        ...

    def tolerates(self, sites: int) -> int:
        """How many of that many sites may send anything."""
        ...


AVERAGES: Registry[Average] = Registry(__name__, "average")
