"""What a user asks of a plan, read from what they wrote: the objective, caps like `30s`, `5MB` or `2.5 money`, a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_catalog.errors import BadInput
from data_catalog.planning import Demands
from infra.ration import AMOUNT, BYTES, SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import Objective

MONEY = ("money",)


def read_demands(
    objective: Objective, at_most: Sequence[str], accuracy_at_least: float, where: str = "--at-most"
) -> Demands:
    """What is asked of a plan.

    Args:
        objective: what it makes least.
        at_most: seconds of the run (`30s`, `2min`), bytes over the edges' links (`5MB`), or money (`2.5 money`).
        accuracy_at_least: the least expected accuracy, by rows; 0: no floor.
        where: what named the amounts, for the error.

    Raises:
        BadInput: an amount is none of these, or two cap the same.
    """
    caps: dict[Objective, float] = {}
    for amount in at_most:
        found = AMOUNT.fullmatch(amount.strip())
        unit = found.group(3).lower() if found and not found.group(1) else ""
        kinds: dict[Objective, bool] = {"makespan": unit in SECONDS, "bytes": unit in BYTES, "money": unit in MONEY}
        kind = next((name for name, fits in kinds.items() if fits), None)
        if found is None or kind is None:
            raise BadInput(f"{where} {amount!r} is no cap; give a time (30s), a size (5MB) or a price ('2.5 money')")
        if kind in caps:
            raise BadInput(f"{where} caps the {kind} twice; give one of them")
        caps[kind] = float(found.group(2)) * (BYTES | SECONDS).get(unit, 1)
    return Demands(objective=objective, caps=caps, accuracy=accuracy_at_least)


def written(objective: Objective, value: float) -> str:
    """A value of an objective, as a person writes it."""
    seconds = f"{value:,.0f} s" if value >= 1000 else f"{value:.3g} s"
    return {"makespan": seconds, "bytes": f"{value:,.0f} bytes", "money": f"{value:,.4g} money"}[objective]


def in_words(objective: Objective, caps: Mapping[Objective, float], floor: float) -> str:
    """What was asked of a plan, in words."""
    asked = [f"least {objective}", *(f"at most {written(name, cap)}" for name, cap in caps.items())]
    return ", ".join([*asked, *([f"an accuracy of at least {floor:.2%}"] if floor else [])])
