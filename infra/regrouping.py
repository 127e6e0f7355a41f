"""Runs of rows to other records, block after block: what a block leaves over goes in front of the next.

See `infra.transforms` for the contract of a transform that regroups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from infra.transforms import Regrouped

    # the rows' numbers in their file (n,), the rows (n, ...), their labels (n,) or None
    Rows = tuple[NDArray[np.intp], NDArray[np.generic], NDArray[np.str_] | None]


def regrouped(
    blocks: Iterable[Rows], regroup: Callable[[NDArray[np.generic], NDArray[np.str_] | None], Regrouped]
) -> Iterator[Rows]:
    """The records that `regroup` makes of all rows, in order; a record has the number of its first row.

    Args:
        blocks: consecutive rows.
        regroup: a transform's function with its settings; rows that it leaves over at the end make no record.
    """
    waiting: Rows | None = None
    skip = 0  # rows that the transform was done with before it saw them
    for numbers, x, labels in blocks:
        if skip >= len(x):
            skip -= len(x)
            continue
        now: Rows = (numbers[skip:], x[skip:], None if labels is None else labels[skip:])
        skip = 0
        if waiting is not None and len(waiting[0]):
            now = _joined(waiting, now)
        made = regroup(now[1], now[2])
        skip = max(0, made.used - len(now[0]))
        waiting = (now[0][made.used :], now[1][made.used :], None if now[2] is None else now[2][made.used :])
        yield now[0][made.first], made.x, made.labels


def _joined(first: Rows, second: Rows) -> Rows:
    labels = None
    if first[2] is not None and second[2] is not None:
        labels = np.concatenate([first[2], second[2]])
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]), labels
