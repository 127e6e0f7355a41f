"""Whether a site's data still look to the edge variant as those did that the cascade was calibrated with.

Two tests of the confidences, of which only the counts on both sides of a few cuts are needed: that of Kolmogorov and
Smirnov for their distribution (N. Smirnov, 1948; on cuts, its statistic is at most the exact one, which makes false
alarms rarer), and Fisher's exact test for the share that escalates. Labels are not needed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import fisher_exact

from data_catalog.nouns import Drift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import Cascade

FALSE_ALARMS = 0.01  # of all runs whose data have not changed, at most about this share has a site that is flagged
CUTS = 20  # shares of rows between which the distribution is looked at


def calibrate(confidence: NDArray[np.float32]) -> tuple[tuple[float, float], ...]:
    """Confidences that cut the rows into about `CUTS` equal parts, and the share of rows below each."""
    if not len(confidence):
        return ()
    ordered = np.sort(confidence)
    cuts = np.unique(ordered[np.arange(1, CUTS) * len(ordered) // CUTS])
    return tuple((float(cut), float(np.searchsorted(ordered, cut) / len(ordered))) for cut in cuts)


def count(cascade: Cascade, confidence: NDArray[np.float32]) -> NDArray[np.int64]:
    """(cuts + 2,) rows below each cut of the calibration, then below the threshold, then all: they add up over shards."""
    cuts = np.array([*(cut for cut, _ in cascade.calibrated), cascade.threshold], np.float32)
    return np.append(np.searchsorted(np.sort(np.nan_to_num(confidence, nan=0.0)), cuts), len(confidence))


def compare(cascade: Cascade, counts: Sequence[int] | NDArray[np.int64], sites: int) -> Drift | None:
    """What the counts of a site's rows say; None if there is nothing to compare.

    Args:
        cascade: with what was calibrated.
        counts: of the site, as `count` makes them.
        sites: that are looked at in the run, among which the false alarms are shared out.
    """
    rows, calibrated = int(counts[-1]), cascade.validation_rows
    if not rows or not cascade.calibrated:
        return None
    below = np.array(counts[:-2]) / rows
    gaps = below - np.array([share for _, share in cascade.calibrated])
    widest = float(gaps[np.abs(gaps).argmax()])
    distance_p = float(kolmogorov(abs(widest) * math.sqrt(rows * calibrated / (rows + calibrated))))
    escalating, expected = int(counts[-2]), round(cascade.escalation * calibrated)
    escalation_p = float(fisher_exact([[escalating, rows - escalating], [expected, calibrated - expected]]).pvalue)
    risk = FALSE_ALARMS / max(1, sites) / 2  # for two tests
    said = []
    if distance_p <= risk:
        said.append(f"it is {'less' if widest > 0 else 'more'} sure of its answers than when it was calibrated")
    if escalation_p <= risk:
        said.append(
            f"{escalating / rows:.1%} of its rows are under the threshold where {expected / calibrated:.1%} were"
        )
    return Drift(
        rows=rows,
        distance=abs(widest),
        distance_p=min(1.0, distance_p),
        escalation=escalating / rows,
        escalation_p=min(1.0, escalation_p),
        flagged=bool(said),
        reason="; ".join(said),
    )
