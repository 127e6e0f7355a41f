"""Windows of a time series: rows in time order become records of `size` rows each, one every `step` rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

from infra.transforms import Regrouped

VERSION = 1
EXAMPLE = {"size": 5, "step": 3, "label": "majority"}


def regroup(
    x: NDArray[np.generic], labels: NDArray[np.str_] | None, *, size: int, step: int = 0, label: str = "majority"
) -> Regrouped:
    """(n, ...) to (k, size, ...): window `i` is rows `i * step` to `i * step + size`; rows that fill none wait.

    Args:
        x: consecutive rows, the first of which begins a window.
        labels: of the rows, or None.
        size: rows in a window.
        step: rows from one window to the next; 0: `size`, so that no row is in two.
        label: a window's label: that of its `first` or `last` row, or the one that most rows have (`majority`; of
            several, the first in the alphabet).

    Raises:
        ValueError: wrong settings.
    """
    step = step or size
    if size < 1 or step < 1:
        raise ValueError(f"a window of {size} rows every {step} cannot be; both must be at least 1")
    if label not in ("first", "last", "majority"):
        raise ValueError(f"no rule {label!r} for the label; use first, last or majority")
    count = max(0, (len(x) - size) // step + 1)
    first = np.arange(count) * step
    rows = first[:, None] + np.arange(size)
    chosen = None
    if labels is not None:
        chosen = _majority(labels, rows) if label == "majority" else labels[rows[:, 0 if label == "first" else -1]]
    return Regrouped(x[rows], chosen, first, count * step, step < size)


def _majority(labels: NDArray[np.str_], rows: NDArray[np.intp]) -> NDArray[np.str_]:
    names, numbers = np.unique(labels, return_inverse=True)
    if not len(rows):
        return labels[:0]
    votes = (numbers[rows][:, :, None] == np.arange(len(names))).sum(axis=1)
    return names[votes.argmax(axis=1)]  # type: ignore[no-any-return]
