"""A budget for escalations: which of the rows that the edges are unsure of go to the cloud where not all may."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import BadInput, UnknownName
from data_catalog.nouns import EscalationBudget

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

AMOUNT = re.compile(r"(?:([a-z0-9][a-z0-9-]*)=)?([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)")
BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
SECONDS = {"s": 1, "min": 60, "h": 3600}
OVER_BUDGET = "over the budget for escalations"


def read_budget(amounts: Sequence[str], where: str = "--escalate-at-most") -> EscalationBudget | None:
    """The budget that amounts like `200` (rows), `50kB`, `10s`, `2.5 money` or `edge-1=50kB` say; None: no limit.

    Raises:
        BadInput: one of them is none of these, or two limit the same.
    """
    limits: dict[str, dict[str, float]] = {}
    for amount in amounts:
        found = AMOUNT.fullmatch(amount.strip())
        unit = found.group(3).lower() if found else "?"
        kinds = (
            {"": "rows", "rows": "rows", "money": "money"}
            | dict.fromkeys(BYTES, "bytes")
            | dict.fromkeys(SECONDS, "seconds")
        )
        if found is None or unit not in kinds:
            raise BadInput(
                f"{where} {amount!r} is no budget; give rows (200), a size (50kB), a time on a link (10s) or a sum of"
                " money ('2.5 money'), for one site as edge-1=50kB"
            )
        site, kind = found.group(1) or "", kinds[unit]
        if kind in limits.setdefault(site, {}):
            raise BadInput(f"{where} limits the {kind} {f'of {site} ' if site else ''}twice; give one of them")
        limits[site][kind] = float(found.group(2)) * (BYTES | SECONDS).get(unit, 1)
    sites = {site: limits[site] for site in limits if site}
    return EscalationBudget.model_validate(limits.get("", {}) | {"sites": sites}) if limits else None


def read_seconds(text: str, where: str) -> float:
    """A time like `90s`, `10min` or `2h`, in seconds.

    Raises:
        BadInput: it is none.
    """
    found = AMOUNT.fullmatch(text.strip())
    if found is None or found.group(1) or found.group(3).lower() not in SECONDS:
        raise BadInput(f"{where} {text!r} is no time; give seconds (90s), minutes (10min) or hours (2h)")
    return float(found.group(2)) * SECONDS[found.group(3).lower()]


def require_edges(budget: EscalationBudget | None, edges: Collection[str], where: str) -> None:
    """Whether every site that the budget names is an edge of the run.

    Raises:
        UnknownName: one is not.
    """
    for name in budget.sites if budget else ():
        if name not in edges:
            raise UnknownName.among("edge site of this run", name, edges, where)


@dataclass(frozen=True, slots=True)
class Cost:
    """What escalating from one site costs."""

    bytes: float  # of a row, about; no more than it really takes
    up: float  # bytes a second that the site's link sends
    byte_money: float = 0.0  # of a byte over its link
    row_money: float = 0.0  # of a row that the cloud answers

    @property
    def money(self) -> float:
        """Of a row, sent and answered."""
        return self.bytes * self.byte_money + self.row_money


def pick(
    budget: EscalationBudget, names: Sequence[str], gains: Sequence[NDArray[np.floating]], costs: Sequence[Cost]
) -> list[NDArray[np.intp]]:
    """Which rows of which site go: those that gain most first, whichever site they are of.

    A site sends no more than its own budget lets it, and the seconds of the run's, for links are used side by side. Of
    what is left the run's budget takes from the top until the next row would break it.

    Args:
        budget: of the run, and of single sites.
        names: of the sites.
        gains: of each site, (n,) expected of escalating each row: the probability that the edge is wrong, 1 - confidence.
        costs: of each site.

    Returns:
        Of each site, the rows that go, those that gain most first; of equal ones the earlier.
    """
    ordered: list[NDArray[np.intp]] = []
    for name, gain, cost in zip(names, gains, costs, strict=True):
        own = budget.sites.get(name, EscalationBudget())
        limits = [
            (own.rows, 1.0), (own.bytes, cost.bytes), (own.money, cost.money),
            (own.seconds, cost.bytes / cost.up), (budget.seconds, cost.bytes / cost.up),
        ]  # fmt: skip
        most = min((_times(limit, each) for limit, each in limits), default=math.inf)
        ordered.append(np.argsort(-gain, kind="stable")[: int(min(most, len(gain)))])
    site = np.repeat(np.arange(len(names)), [len(rows) for rows in ordered])
    merged = np.concatenate([np.zeros(0), *(gain[rows] for gain, rows in zip(gains, ordered, strict=True))])
    order = np.argsort(-merged, kind="stable")
    going = len(order)
    whole = (
        (budget.rows, [1.0 for _ in costs]),
        (budget.bytes, [cost.bytes for cost in costs]),
        (budget.money, [cost.money for cost in costs]),
    )
    for limit, each in whole:
        if limit is not None:
            used = np.cumsum(np.array(each)[site[order]])
            going = min(going, int(np.searchsorted(used, limit * (1 + 1e-12), "right")))
    counts = np.bincount(site[order[:going]], minlength=len(names))
    return [rows[:count] for rows, count in zip(ordered, counts, strict=True)]


def _times(limit: float | None, each: float) -> float:
    """How often something of a cost of `each` fits into a limit."""
    if limit is None or (not each and limit >= 0):
        return math.inf
    return limit // each


def most_bytes(
    budget: EscalationBudget, names: Sequence[str], counts: Sequence[int], costs: Sequence[Cost]
) -> list[int | None]:
    """How many bytes each site may really send for the rows that were picked; None: as many as they take.

    The run's bytes and money are shared out as the picked rows are expected to use them.

    Args:
        budget: of the run, and of single sites.
        names: of the sites.
        counts: of each site, rows picked.
        costs: of each site.
    """
    sizes = [count * cost.bytes for count, cost in zip(counts, costs, strict=True)]
    sums = [count * cost.money for count, cost in zip(counts, costs, strict=True)]
    found: list[int | None] = []
    for name, count, cost, size, money in zip(names, counts, costs, sizes, sums, strict=True):
        own = budget.sites.get(name, EscalationBudget())
        limits = [
            own.bytes, budget.bytes and budget.bytes * size / (sum(sizes) or 1.0),
            *(seconds and seconds * cost.up for seconds in (own.seconds, budget.seconds)),
        ]  # fmt: skip
        if cost.byte_money:
            shares = [own.money, budget.money and budget.money * money / (sum(sums) or 1.0)]
            limits += [share and max(0.0, share - count * cost.row_money) / cost.byte_money for share in shares]
        given = [limit for limit in limits if limit is not None]
        found.append(int(min(given)) if given else None)
    return found
