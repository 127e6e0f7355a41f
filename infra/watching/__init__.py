"""Watch the work orders of a run, and change the plan where a site falls behind, fails, falls silent or joins.

The coordinator acts through the store and through what the flow gives it (`Hands`). A site has one order at a time; what
more it is given waits here, and becomes its next order. A shard may be answered twice, as where it was withdrawn too
late; the first site whose receipt says so counts, and the plan is revised to what came of it.
"""

from __future__ import annotations

import math
import queue
import time
from typing import TYPE_CHECKING

from infra import keys
from infra.watching import acting, ending, looking
from infra.watching.state import USUAL, Hands, Joined, Patience, State, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from data_catalog.nouns import Plan, Site
    from infra.placement import Problem
    from infra.storage import Store

__all__ = ["Hands", "Joined", "Patience", "Watched", "watch"]


def watch(
    plan: Plan,
    problem: Problem,
    sites: Iterable[Site],
    hands: Hands,
    store: Store,
    patience: Patience = USUAL,
    ends: float | None = None,
) -> Watched:
    """Have the first orders of a plan done, or others in their place, until every shard is answered or the time is over.

    Args:
        plan: whose first orders are in the store, watched.
        problem: that it solves. None of its shards is resident.
        sites: that take part.
        hands: how orders are done.
        store: of the run.
        patience: how long it waits.
        ends: epoch seconds after which nobody is waited for; what is not answered by then, or by no site, is left, and it
            is said why (`Watched.late`). None: every shard has to be answered.

    Raises:
        CloudEdgeError: what stopped the site of a shard that no other could answer, when all others have ended; where
            the time is bounded, only what the user can mend.
    """
    state = State(plan, problem, sites, hands, store, patience)
    over = math.inf if ends is None else time.monotonic() + ends - time.time()
    for name in sorted({p.site for p in plan.placements}) if time.monotonic() < over else ():
        mine = {p.shard.digest: p for p in plan.placements if p.site == name}
        acting.hand(state, name, keys.order(plan.run_id, name), mine)
    planned = max((handed.pace.planned for handed in state.running.values()), default=0.0)
    between = patience.between(planned)
    look = time.monotonic() + between
    while len(state.answered) < len(plan.placements) and _under_way(state) and time.monotonic() < over:
        try:
            happened, arguments = state.events.get(timeout=max(0.0, min(look, over) - time.monotonic()))
        except queue.Empty:
            if time.monotonic() < over:
                looking.look(state)
            look = time.monotonic() + between
        else:
            happened(*arguments)
            if state.hurry:
                look = min(look, time.monotonic())
        for name in state.waiting:
            acting.dispatch(state, name)
    if missing := [p for p in state.plan.placements if p.shard.digest not in state.answered]:
        if ends is None or ending.is_fatal(state):
            raise ending.failure(state, missing)
        ending.leave(state, missing)
    ending.conclude(state)
    return state.result


def _under_way(state: State) -> bool:
    """Whether anything may still come: of a silent site as long as patience lasts, if it alone can give it."""
    living = [name for name in state.running if name not in state.gone]
    next_orders = any(state.waiting.values()) and not state.fatal
    if living or state.uploads or state.hurry or next_orders:
        return True
    silent = [state.gone[name][0] for name in state.running]
    return bool(silent) and time.monotonic() < max(silent) + state.patience.give_up
