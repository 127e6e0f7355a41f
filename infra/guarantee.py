"""A bound on what the cascade loses against the cloud alone that holds whatever the data are; pure functions.

Below a threshold the cloud answers, so a row costs something only if the edge keeps it: it is a *loss* if the edge is
wrong and the cloud right, a *gain* if the edge is right and the cloud wrong. The drop in accuracy is the probability of
a loss less that of a gain. `docs/cascade.md` derives what is here.

The test of one threshold is exact and unconditional: H. Hsueh, J. Liu & J. Chen, Unconditional exact tests for
equivalence or noninferiority for paired binary endpoints, Biometrics 57 (2001). The search is fixed sequence testing:
A. Angelopoulos, S. Bates, E. Candes, M. Jordan & L. Lei, Learn then Test, arXiv:2110.01052 (2021).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import bdtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Thresholds that are tried, from the highest down: fixed before any row is seen, or the guarantee would be void. The
# odds of being right fall by a factor of 10^(1/20) from one to the next; between 1 and 1 - 10^-7 float32 has no
# more than two values. The lowest lies under every confidence but that of a row without an answer, which is 0.
THRESHOLDS: NDArray[np.float32] = np.concatenate(
    [[1.0], 1 / (1 + 10.0 ** -np.arange(7, -1.001, -0.05)), [1e-6]]
).astype(np.float32)
MOST_GAINS = 400  # more gains count as this many, which is on the safe side
STEP = 0.05  # of the nuisance parameter, in standard deviations of the number of gains


class Shown(NamedTuple):
    """A threshold for which the bound was shown, and the rows that the edge keeps with it."""

    threshold: float
    losses: int
    gains: int
    limit: int  # most losses with so many gains


def lowest_threshold(
    confidence: NDArray[np.float32], loss: NDArray[np.bool_], gain: NDArray[np.bool_], bound: float, level: float
) -> Shown | None:
    """The lowest of `THRESHOLDS` from which on the bound is shown for every higher one; None: for none.

    The drop of the cascade with that threshold lies above the bound with a probability of at most 1 - level,
    whatever the rows are distributed like, as long as they were drawn independently and neither they nor their
    order had a part in making the confidences.

    Args:
        confidence: (n,) of the edge's answers.
        loss: (n,) whether the edge is wrong and the cloud right.
        gain: (n,) whether the edge is right and the cloud wrong.
        bound: on the drop in accuracy, 1 = 100 %.
        level: probability with which the bound is to hold, below 1.
    """
    limits = most_losses(len(confidence), bound, level)
    losses, gains = (
        rows.sum() - np.searchsorted(np.sort(confidence[rows]), THRESHOLDS) for rows in (loss, gain)
    )  # at or above each threshold
    limit = limits[np.minimum(gains, len(limits) - 1)]
    failed = np.flatnonzero(losses > limit)
    last = int(failed[0] if len(failed) else len(THRESHOLDS)) - 1
    if last < 0:
        return None
    return Shown(float(THRESHOLDS[last]), int(losses[last]), int(gains[last]), int(limit[last]))


def rows_needed(bound: float, level: float) -> float:
    """The fewest rows with which the bound can be shown: without a single loss among them; infinite for a bound of 0.

    If the drop were above the bound, every row would be a loss with at least that probability, so `rows` rows
    without a loss would have a probability of at most (1 - bound)^rows.
    """
    if bound <= 0 or level >= 1:
        return math.inf
    return 1 if bound >= 1 else max(1, math.ceil(math.log1p(-level) / math.log1p(-bound)))


@lru_cache(maxsize=64)
def most_losses(rows: int, bound: float, level: float) -> NDArray[np.int64]:
    """The most losses among the rows with which the bound still counts as shown, for every number of gains.

    If the drop is above the bound, the probability that gains g and losses l satisfy `l <= most_losses(...)[g]` is at
    most 1 - level. `docs/cascade.md` has the proof.

    Args:
        rows: that were drawn, independently.
        bound: on the drop in accuracy, 1 = 100 %.
        level: probability, below 1.

    Returns:
        (gains + 1,) numbers that never fall; the last one stands for more gains. -1: not even without a loss.
    """
    risk = 1 - level
    expected = rows * bound
    most = min(rows, MOST_GAINS, 64 + int(2 * expected))
    # more gains than `most` count as that many; some of those are in the table, to reckon with what is exact
    gains = np.minimum(most, np.arange(min(rows, most + 20 + int(8 * math.sqrt(most))) + 1))
    # without gains counted: a binomial test of the losses alone; a step down from its quantile is always safe
    alone = (
        int(np.searchsorted(bdtr(np.arange(min(rows, int(expected) + 1) + 1.0), rows, bound), risk, side="right")) - 1
    )

    def limits(strictness: float) -> NDArray[np.int64]:
        """So many standard deviations (as estimated from the gains) below what is expected at the bound."""
        enough = np.floor(gains + expected - strictness * np.sqrt(expected + 2 * gains)).astype(np.int64)
        return np.maximum(alone, np.maximum.accumulate(np.clip(enough, -1, rows)))

    strict, lax = 5.0, 0.5  # of all strictnesses the least whose error is small enough, by bisection
    for _ in range(11):
        middle = (strict + lax) / 2
        strict, lax = (middle, lax) if _error(limits(middle), rows, bound, risk) <= risk else (strict, middle)
    found = limits(strict)
    if _error(found, rows, bound, risk) > risk:
        found = np.full(len(gains), alone)
    found.setflags(write=False)
    return found


def _error(limits: NDArray[np.int64], rows: int, bound: float, risk: float) -> float:
    """An upper bound on the probability of at most `limits[gains]` losses while the drop is above the bound.

    With losses and gains of probability p and q the drop is p - q. More losses or fewer gains make the event less
    probable, since the limits never fall. So it is most probable at p = bound + q, for some q; and between two
    values of q at most as probable as with the lower one's p and the upper one's q. Above `risk` it may be any
    number above it.
    """
    if limits[-1] < 0:
        return 0.0
    steps: list[tuple[float, float]] = []
    low, end = 0.0, (1 - bound) / 2
    # up to where so few losses are improbable with any number of gains
    while low < end and bdtr(float(limits[-1]), rows, bound + low) > risk:
        high = min(end, low + STEP * math.sqrt((low + 0.25 / rows) / rows))
        steps.append((low, high))
        low = high
    worst = float(bdtr(float(limits[-1]), rows, bound)) if not steps else 0.0
    for low, high in (*steps[::8], *steps):  # a few first: most limits that are too lax show it there
        worst = max(worst, _probability(limits, rows, bound + low, high))
        if worst > risk:
            break
    return worst


def _probability(limits: NDArray[np.int64], rows: int, p: float, q: float) -> float:
    """At most that of `limits[gains]` losses or fewer, where a row is a loss with probability p and a gain with q."""
    spread = 8 * math.sqrt(rows * q) + 8
    first = max(0, int(rows * q - spread))
    end = min(len(limits) - 1, int(rows * q + spread))  # so many gains and more are counted as likely as can be
    gains = np.arange(first, max(first, end))
    at_most = bdtr(np.arange(first - 1, end, dtype=float), rows, q) if end > first else np.zeros(1)
    at_most[0] = at_most[0] if first else 0.0
    allowed, left = limits[gains], rows - gains
    few = bdtr(np.clip(allowed, 0, left).astype(float), left, min(1.0, p / (1 - q)))
    more = min(1.0 - float(at_most[-1]), float(bdtr(float(limits[-1]), rows, p)))
    return float((np.diff(at_most) * np.where(allowed >= 0, few, 0.0)).sum() + at_most[0] + more)
