"""A budget for escalations: which of the rows that the edge is unsure of go to the cloud where not all may."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import BadInput
from data_catalog.nouns import EscalationBudget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)")
BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
SECONDS = {"s": 1, "min": 60, "h": 3600}
OVER_BUDGET = "over the budget for escalations"


def read_budget(amounts: Sequence[str], where: str = "--escalate-at-most") -> EscalationBudget | None:
    """The budget that amounts like `200` (rows), `50kB` or `10s` say; None: no limit.

    Raises:
        BadInput: one of them is none of these, or two limit the same.
    """
    limits: dict[str, float] = {}
    for amount in amounts:
        found = AMOUNT.fullmatch(amount.strip())
        unit = found.group(2).lower() if found else "?"
        kind = "rows" if unit in {"", "rows"} else "bytes" if unit in BYTES else "seconds" if unit in SECONDS else ""
        if found is None or not kind:
            raise BadInput(f"{where} {amount!r} is no budget; give rows (200), a size (50kB) or a time on a link (10s)")
        if kind in limits:
            raise BadInput(f"{where} limits the {kind} twice; give one of them")
        limits[kind] = float(found.group(1)) * (BYTES | SECONDS).get(unit, 1)
    return EscalationBudget.model_validate(limits) if limits else None


def share(budget: EscalationBudget, parts: Sequence[float], up: Sequence[float]) -> list[tuple[int | None, int | None]]:
    """What of a run's budget each site gets: most rows and most bytes; None: no limit.

    Rows and bytes are shared out in proportion, rounded down; a row that this leaves over goes to the first sites.
    Links are used side by side, so each site has all of the seconds.

    Args:
        budget: of the run.
        parts: of each site, such as the rows that it answers.
        up: bytes a second that each site's link sends.
    """
    whole = sum(parts) or 1.0
    rows: list[int | None] = [None] * len(parts)
    if budget.rows is not None:
        least = [int(budget.rows * part / whole) for part in parts]
        over = int(budget.rows) - sum(least)
        rows = [few + (i < over) for i, few in enumerate(least)]
    sizes: list[int | None] = []
    for part, rate in zip(parts, up, strict=True):
        limits = [] if budget.bytes is None else [budget.bytes * part / whole]
        limits += [] if budget.seconds is None else [budget.seconds * rate]
        sizes.append(int(min(limits)) if limits else None)
    return list(zip(rows, sizes, strict=True))


def ration(gain: NDArray[np.floating], most: int | None) -> NDArray[np.bool_]:
    """Which rows go: `most` of them, those that gain most; of equal ones the earlier.

    Args:
        gain: (n,) expected of escalating each row: the probability that the edge is wrong, 1 - confidence.
        most: how many may; None: all.
    """
    chosen = np.zeros(len(gain), bool)
    chosen[np.argsort(-gain, kind="stable")[: len(gain) if most is None else max(0, most)]] = True
    return chosen
