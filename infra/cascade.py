"""The cascade: calibrated confidence, and the threshold under which the cloud answers; pure functions.

Temperature scaling: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017; its targets: J. Platt,
Probabilistic Outputs for Support Vector Machines, 1999. Interval: E. B. Wilson, Probable inference, the law of
succession, and statistical inference, JASA 22 (1927).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

from data_catalog.errors import BadInput
from data_catalog.nouns import Cascade
from infra import drift, guarantee

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z95 = 1.959963984540054
# Without a guarantee: a threshold chosen on some rows does a little worse on others, so only this part of the user's
# bound is spent on the validation rows; the rest is margin.
SPENT_SHARE = 0.5
NEVER_SURE = 2.0  # a threshold above every confidence: all rows escalate


def answer(logits: NDArray[np.float32], temperature: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Class and calibrated confidence of each row.

    Args:
        logits: (n, classes).
        temperature: what the logits are divided by; over 1 makes a model less sure of itself.

    Returns:
        (n,) class numbers, of equal logits the first, and (n,) largest softmax probabilities; 0 where a logit is not a
        number, where all are minus infinity or where there is none, so that such a row escalates. No other
        confidence is 0: the largest of k probabilities is at least 1 / k.
    """
    if not logits.size:
        return np.zeros(len(logits), np.int32), np.zeros(len(logits), np.float32)
    classes = np.where(np.isnan(logits), -np.inf, logits).argmax(axis=1).astype(np.int32)
    with np.errstate(invalid="ignore"):  # infinity less infinity is no number, and the row not sure
        scaled = logits - logits.max(axis=1, keepdims=True)
    scaled /= np.float32(temperature)
    np.exp(scaled, out=scaled)
    confidence = 1 / scaled.sum(axis=1)
    return classes, np.nan_to_num(confidence, nan=0.0).astype(np.float32)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the negative log-likelihood of (n, classes) logits on (n,) labels.

    As in Platt's scaling, the n targets are n + 1 parts of n + 2: otherwise a model that is right on all of a few rows
    would get the lowest temperature, with which it is sure of everything. Rows with a logit that is no number
    are left out.
    """
    finite = np.isfinite(logits).all(axis=1)
    logits, labels = logits[finite].astype(np.float64), labels[finite]
    rows, classes = logits.shape
    if not rows or classes < 2:
        return 1.0  # nothing to learn from, or nothing to be unsure of
    target = np.full(logits.shape, 1 / (rows + 2) / (classes - 1))
    target[np.arange(rows), labels] = (rows + 1) / (rows + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
        return float((target * (log_sum - scaled)).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(float(found.x))


def choose_threshold(
    confidence: NDArray[np.float32],
    edge_right: NDArray[np.bool_],
    cloud_right: NDArray[np.bool_],
    bound: float,
    temperature: float,
    level: float = 0.95,
) -> Cascade:
    """The smallest escalation that keeps accuracy within the bound of cloud-only accuracy, with that probability.

    Args:
        confidence: (n,) of the edge variant on validation rows, none of which trained it or fitted its temperature.
        edge_right: (n,) whether the edge variant's class is the label.
        cloud_right: (n,) whether the cloud variant's is.
        bound: how far below cloud-only the accuracy may lie, 1 = 100 %; 0 asks for the cloud's own answers.
        temperature: kept in the answer.
        level: probability, below 1, with which the bound is to hold for rows like these (`infra/guarantee.py`); 0: no
            guarantee, but that it holds for these very rows, with a margin.

    Returns:
        The threshold: a row escalates if its confidence lies under it.

    Raises:
        BadInput: there are fewer rows than the bound needs; says how many it needs, and what else would do.
    """
    rows = len(confidence)
    confidence = np.nan_to_num(confidence, nan=0.0)
    loss, gain = cloud_right & ~edge_right, edge_right & ~cloud_right
    if level:
        needed = guarantee.rows_needed(bound, level)
        if bound and rows < needed:
            raise BadInput(_too_few(rows, bound, level, needed))
        shown = guarantee.lowest_threshold(confidence, loss, gain, bound, level) if bound else None
        threshold = shown.threshold if shown else NEVER_SURE
        allowance = (shown.limit - shown.gains) / rows if shown else 0.0
    else:
        if not rows:
            raise BadInput("there are no validation rows to choose a threshold from; give the dataset some (`splits`)")
        allowance = bound * SPENT_SHARE
        threshold = _with_margin(confidence, edge_right, cloud_right, allowance)
    kept = confidence >= np.float32(threshold)
    return Cascade(
        threshold=threshold,
        temperature=temperature,
        bound=bound,
        allowance=allowance,
        escalation=float((~kept).mean()) if rows else 1.0,
        validation_rows=rows,
        validation_accuracy=float(np.where(kept, edge_right, cloud_right).mean()) if rows else 0.0,
        validation_cloud_accuracy=float(cloud_right.mean()) if rows else 0.0,
        confidence=level,
        kept_losses=int((kept & loss).sum()),
        kept_gains=int((kept & gain).sum()),
        calibrated=drift.calibrate(confidence),
    )


def _too_few(rows: int, bound: float, level: float, needed: float) -> str:
    enough = math.ceil(-1e4 * math.expm1(math.log1p(-level) / max(rows, 1))) / 1e4
    return (
        f"to promise a bound of {bound:g} with {level:.0%} confidence takes at least {needed:,.0f} validation rows, and"
        f" there are {rows:,}; give a bound of at least {enough:g}, a larger validation split, or --confidence 0 for a"
        " margin instead of a promise"
    )


def _with_margin(
    confidence: NDArray[np.float32], edge_right: NDArray[np.bool_], cloud_right: NDArray[np.bool_], allowance: float
) -> float:
    """The lowest threshold from which on, for every higher one, the rows' accuracy is within the allowance.

    Rows are escalated from the least sure upwards; rows of one confidence go together. An isolated lucky
    point is not taken.
    """
    rows = len(confidence)
    order = np.argsort(confidence, kind="stable")
    sorted_confidence = confidence[order]
    # right[k]: right answers if the k least sure rows go to the cloud
    right = np.concatenate([[0], np.cumsum(cloud_right[order])]) + np.concatenate(
        [np.cumsum(edge_right[order][::-1])[::-1], [0]]
    )
    # only between rows of different confidence can a threshold cut
    cuts = np.flatnonzero(np.concatenate([[True], np.diff(sorted_confidence) > 0, [True]]))
    enough = right[cuts] >= cloud_right.sum() - allowance * rows - 1e-9
    failing = np.flatnonzero(~enough)
    cut = int(cuts[failing[-1] + 1 if len(failing) else 0])
    if not cut:
        return 0.0  # nothing escalates
    return float(sorted_confidence[cut]) if cut < rows else NEVER_SURE


def keep_all(cascade: Cascade) -> Cascade:
    """The cascade of data that may not leave its site: every row keeps the edge's answer, and nothing is promised."""
    return cascade.model_copy(update={"threshold": 0.0, "escalation": 0.0, "confidence": 0.0})


def wilson_interval(right: int, rows: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (0, 1) without rows."""
    if not rows:
        return (0.0, 1.0)
    share, square = right / rows, Z95**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = Z95 / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    # at 0 and 1 the interval ends in the share itself, which rounding must not push out
    return (max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))
