"""How a watch ends: the plan as it came, what is left where the time was over, or the failure to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_catalog.errors import BadInput, CloudEdgeError, SiteFailed
from infra.pipeline import LATE
from infra.watching.acting import revise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import Placement
    from infra.watching.state import State


def is_fatal(state: State) -> bool:
    """Whether something has failed that stops a run also where its time is bounded: what the user can mend, or no error of ours."""
    return any(isinstance(e, BadInput) or not isinstance(e, CloudEdgeError) for e in state.fatal.values())


def failure(state: State, missing: Sequence[Placement]) -> BaseException:
    """What to tell: the failure of the first site that failed, first of those that no other site would have done better."""
    for failures in (state.fatal, _gone(state)):
        if failures:
            return failures[min(failures)]
    names = ", ".join(sorted({p.site for p in missing}))
    return SiteFailed(f"{len(missing)} shards at {names} were not answered; run again to answer them")


def leave(state: State, missing: Sequence[Placement]) -> None:
    """The time is over: what is not answered stays at a site that has an order for it, to be settled later."""
    held: dict[str, list[Placement]] = {}
    for p in missing:
        digest = p.shard.digest
        orders = [handed.open[digest] for handed in state.running.values() if digest in handed.open]
        held[digest] = sorted([*orders, state.placed[digest]], key=lambda each: each.site in state.gone)
    there = state.in_ledger(p for places in held.values() for p in places)
    for digest, places in held.items():
        state.left[digest] = next((p for p in places if p.result in there), places[0])
    failures = _gone(state) | state.fatal
    for site in sorted({p.site for p in state.left.values()}):
        state.result.late[site] = str(failures.get(site, LATE))


def conclude(state: State) -> None:
    """Revise the plan to who answered what, as it came."""
    known = state.answered | state.left
    answered = [known[p.shard.digest] for p in state.plan.placements]
    state.result.gone = {name: str(error) for name, error in _gone(state).items()}
    if answered != [*state.plan.placements]:
        revise(state, answered, len(state.result.replanned))
    state.result.plan = state.plan


def _gone(state: State) -> dict[str, BaseException]:
    return {name: error for name, (_, error) in state.gone.items()}
