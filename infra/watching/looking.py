"""See how far the sites are, and decide whether the plan should change."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data_catalog.errors import SiteFailed
from data_catalog.replanning import OrderProgress
from infra import keys, mailbox, storage
from infra.agent import SIGN_SECONDS
from infra.replanning import Queue, Standing, can_help, decide, duplicates, start_seconds
from infra.watching import acting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from data_catalog.nouns import Placement
    from infra.watching.state import Handed, Joined, State

ASKED_AT_A_TIME = 16


def look(state: State) -> None:
    """Look once, and change the plan where a site is late, gone or new, or idle while others are far from their end."""
    now, hurry = time.monotonic(), state.hurry
    state.hurry = False
    if state.fatal:
        return
    _hear(state, now)
    joined = [_welcome(state, each) for each in state.hands.join()]
    late = [name for name, handed in state.running.items() if name not in state.gone and handed.pace.late]
    lost = [name for name in state.gone if state.stranded.get(name) or name in state.running]
    left = {name: handed.pace.remaining for name, handed in state.running.items() if name not in state.gone}
    idle = [name for name in state.places if name not in state.running and name not in state.gone]
    helped = can_help(left.values(), (start_seconds(state.places[name]) for name in idle), state.patience.look)
    if not (late or lost or joined or helped) or (now < state.put_off and not (hurry or joined)):
        return
    why = _why(state, lost, joined, late, left)
    there = state.in_ledger(p for name in state.running for p in state.undone(name, set()).values())
    _do_without(state, there, now)
    standings = _standings(state, there)
    moves = decide(state.open_problem, standings)
    twice = [] if moves else duplicates(state.problem, standings, left)
    if acting.act(state, moves, twice, there, why):
        state.put_off = state.pause = 0.0
    else:
        state.pause = state.patience.put_off(state.pause)
        state.put_off = now + state.pause


def _hear(state: State, now: float) -> None:
    """Read how far each order is; who has said nothing for a lease is taken for dead, until it speaks again."""

    def read(handed: Handed) -> OrderProgress | None:
        key = keys.progress(state.plan.run_id, handed.order.order_id)
        return storage.read_noun(state.store, key, OrderProgress, "no progress of an order")

    handed = dict(state.running)
    with ThreadPoolExecutor(ASKED_AT_A_TIME, thread_name_prefix="look") as pool:
        said = list(pool.map(read, handed.values()))
    for (name, each), progress in zip(handed.items(), said, strict=True):
        if progress and (not each.progress or progress.seconds != each.progress.seconds):
            each.progress, each.heard = progress, now
            state.returned(name)
        _pace(each, now)
        state.saw(name, each, each.pace.each / each.pace.factor)
        silent = now - each.heard
        patient = state.patience.lease + (0.0 if each.progress else state.places[name].dispatch_seconds)
        if silent > patient and name not in state.gone and not _is_there(state, name):
            state.gone[name] = (now, SiteFailed(
                f"site {name} has given no sign of life for {silent:.0f} s, and has {len(each.open)} shards of order"
                f" {each.order.order_id}; look at that machine and run again"
            ))  # fmt: skip
            acting.strand(state, name, state.waiting[name])
            state.put_off = 0.0


def _is_there(state: State, name: str) -> bool:
    """Whether a site's own process gave a sign of life of late, though not of its order: what it waits for may be a letter."""
    if state.sites[name].dispatch != "mailbox":
        return False
    presence = mailbox.read_presence(state.store, name)
    return presence is not None and time.time() - presence.at < 2 * SIGN_SECONDS + state.patience.lease


def _pace(handed: Handed, now: float) -> None:
    """What was heard, brought up to now."""
    said, since, answered = handed.progress, 0.0, 0
    if said and said.first_seconds is not None:
        since = said.seconds - said.first_seconds + now - handed.heard
        answered = min(said.shards, handed.pace.shards)
    handed.pace = replace(
        handed.pace, elapsed=now - handed.at, answered=answered, since_first=since, withdrawn=len(handed.withdrawn)
    )


def _welcome(state: State, joined: Joined) -> str:
    """A site that has joined is a site like any other from now on."""
    name = joined.site.name
    state.joined.add(name)
    state.sites[name], state.places[name], state.waiting[name] = joined.site, joined.place, {}
    cards = {**state.plan.cards, name: joined.card}
    batches = {**state.plan.batch_sizes, name: joined.batch}
    state.plan = state.plan.model_copy(
        update={"cards": cards, "batch_sizes": batches, "access": (*state.plan.access, *joined.access)}
    )
    return name


def _why(
    state: State, lost: Sequence[str], joined: Sequence[str], late: Sequence[str], left: Mapping[str, float]
) -> str:
    reasons = [" ".join(str(state.gone[name][1]).split())[:200] for name in lost]
    reasons += [f"{name} joined" for name in joined]
    for name in late:
        pace = state.running[name].pace
        reasons.append(
            f"{name} is behind: {pace.answered} of {pace.shards} shards after {pace.elapsed:.1f} s, where all should"
            f" take {pace.planned:.1f} s"
        )
    if not reasons:
        slow = max(left, key=lambda name: left[name])
        reasons.append(f"others are done, and {slow} needs {left[slow]:.1f} s more")
    return "; ".join(reasons)


def _do_without(state: State, there: set[str], now: float) -> None:
    """Do without the receipt of an order of which everything is in the ledger, if it does not come soon."""
    for name, handed in list(state.running.items()):
        if state.undone(name, there):
            handed.complete = 0.0
        elif not handed.complete:
            handed.complete = now
        elif now - handed.complete > state.patience.linger:
            why = f"site {name} gave no receipt for order {handed.order.order_id}"
            acting.settle_order(state, name, handed, state.in_ledger(handed.open.values()), why)


def _standings(state: State, there: set[str]) -> list[Standing]:
    """The sites as the decisions see them."""
    queues = {name: _queue(state, name, there) for name in state.places}
    loose = {p.shard.digest for queue in queues.values() for p in queue.loose}
    kept: dict[str, list[Placement]] = {name: [] for name in state.places}
    for p in state.plan.placements:
        if p.shard.digest not in loose and not p.reused:
            now = state.answered.get(p.shard.digest, p)
            kept[now.site].append(now)
    return [_standing(state, name, queue, kept[name]) for name, queue in queues.items()]


@dataclass(frozen=True, slots=True)
class _Queue:
    """What a site has not answered. Of what it has begun as many shards as threads cannot be taken back."""

    begun: list[Placement]
    loose: list[Placement]
    bound: list[Placement]  # not begun, and cannot be had


def _queue(state: State, name: str, there: set[str]) -> _Queue:
    undone = list(state.undone(name, there).values())
    threads = 0 if name in state.gone else state.places[name].threads
    begun, later = undone[:threads], undone[threads:]
    here = [*state.waiting[name].values(), *state.stranded.get(name, {}).values(), *later]
    loose = state.movable(here)
    free = {p.shard.digest for p in loose}
    return _Queue(begun, loose, [p for p in here if p.shard.digest not in free])


def _standing(state: State, name: str, queue: _Queue, kept: Iterable[Placement]) -> Standing:
    place, handed = state.as_seen(name), state.running.get(name)
    busy = [*queue.begun, *queue.bound]
    busy += [p for p in state.moving.values() if p.site == name]
    seconds = sum(state.seconds(p, place) for p in busy)
    seconds += handed.pace.until_first if handed else 0.0
    return Standing(
        site=place,
        alive=name not in state.gone,
        warm=name in state.running or name in state.numbers,
        busy=seconds,
        loose=_counted(queue.loose),
        begun=_counted(state.movable(queue.begun)),
        kept=_counted(kept),
    )


def _counted(placements: Iterable[Placement]) -> Queue:
    found: Queue = {}
    for p in placements:
        found[p.shard.origin, p.variant] = found.get((p.shard.origin, p.variant), 0) + 1
    return found
