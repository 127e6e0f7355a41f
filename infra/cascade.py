"""The cascade: calibrated confidence, and the threshold under which the cloud answers; pure functions.

Temperature scaling: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Interval: E. B.
Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

from data_catalog.nouns import Cascade

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z95 = 1.959963984540054
# A threshold chosen on some rows does a little worse on others, so only this part of the user's bound is
# spent on the validation rows; the rest is margin.
SPENT_SHARE = 0.5
NEVER_SURE = 2.0  # a threshold above every confidence: all rows escalate


def answer(logits: NDArray[np.float32], temperature: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Class and calibrated confidence of each row.

    Args:
        logits: (n, classes).
        temperature: what the logits are divided by; over 1 makes a model less sure of itself.

    Returns:
        (n,) class numbers, and (n,) largest softmax probabilities; 0 where a logit is not a number, so that
        such a row escalates.
    """
    classes = logits.argmax(axis=1).astype(np.int32)
    scaled = logits - logits.max(axis=1, keepdims=True)
    scaled /= np.float32(temperature)
    np.exp(scaled, out=scaled)
    confidence = 1 / scaled.sum(axis=1)
    return classes, np.nan_to_num(confidence, nan=0.0).astype(np.float32)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the negative log-likelihood of (n, classes) logits on (n,) labels."""
    logits = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(float(found.x))


def choose_threshold(
    confidence: NDArray[np.float32],
    edge_right: NDArray[np.bool_],
    cloud_right: NDArray[np.bool_],
    bound: float,
    temperature: float,
) -> Cascade:
    """The smallest escalation that keeps validation accuracy within the bound of cloud-only accuracy.

    Rows are escalated from the least sure upwards; rows of one confidence go together. Of the thresholds
    whose validation accuracy is at least `cloud - bound * SPENT_SHARE`, the lowest from which on every
    higher one also is: an isolated lucky point is not taken.

    Args:
        confidence: (n,) of the edge variant on validation rows, none of which trained it.
        edge_right: (n,) whether the edge variant's class is the label.
        cloud_right: (n,) whether the cloud variant's is.
        bound: how far below cloud-only the accuracy may lie, 1 = 100 %.
        temperature: kept in the answer.

    Returns:
        The threshold: a row escalates if its confidence lies under it.
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
    allowance = bound * SPENT_SHARE
    enough = right[cuts] >= cloud_right.sum() - allowance * rows - 1e-9
    failing = np.flatnonzero(~enough)
    cut = int(cuts[failing[-1] + 1 if len(failing) else 0])
    threshold = (sorted_confidence[cut] if cut < rows else NEVER_SURE) if cut else 0.0  # nothing escalates
    return Cascade(
        threshold=float(threshold),
        temperature=temperature,
        bound=bound,
        allowance=allowance,
        escalation=cut / rows,
        validation_rows=rows,
        validation_accuracy=float(right[cut] / rows),
        validation_cloud_accuracy=float(cloud_right.mean()),
    )


def keep_all(cascade: Cascade) -> Cascade:
    """The cascade of data that may not leave its site: every row keeps the edge's answer, whatever the bound."""
    return cascade.model_copy(update={"threshold": 0.0, "escalation": 0.0})


def wilson_interval(right: int, rows: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (0, 1) without rows."""
    if not rows:
        return (0.0, 1.0)
    share, square = right / rows, Z95**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = Z95 / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    # at 0 and 1 the interval ends in the share itself, which rounding must not push out
    return (max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))
