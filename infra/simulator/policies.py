"""What a policy sees, which is what a coordinator sees, and the policies: which shards that are not answered should move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra import replanning
from infra.replanning import Move, Pace, Queue, Standing, can_help, shard_seconds, start_seconds
from infra.simulator.workers import in_turn

if TYPE_CHECKING:
    from infra.placement import PlaceOrigin, PlaceSite, Problem
    from infra.watching.state import Patience


@dataclass(frozen=True, slots=True)
class Seen:
    """One site."""

    site: PlaceSite  # as it was measured before the run
    alive: bool  # not taken for dead
    warm: bool  # whether it had an order
    factor: float  # its speed, times the measured one, as told from what it answered
    pace: Pace | None  # of its order
    waiting: Queue  # given to it and not in the ledger
    answered: Queue  # by it, in the ledger


@dataclass(slots=True)
class State:
    """What a policy sees."""

    now: float
    problem: Problem  # as it was planned
    sites: dict[str, Seen]
    origins: dict[str, PlaceOrigin]
    patience: Patience
    joined: bool = False  # whether a site has come since the last look
    put_off: float = 0.0  # no plan is made before that
    pause: float = 0.0  # and for how long it was put off
    sent_beside: float = 0.0  # bytes that moves have cost beside those of the shards where they are

    @property
    def open_problem(self) -> Problem:
        """The problem, less that of a cap on bytes."""
        return replanning.less_sent(self.problem, self.sent_beside)


@dataclass(frozen=True, slots=True)
class Change:
    """What a policy wants."""

    moves: list[Move] = field(default_factory=list)
    twice: list[Move] = field(default_factory=list)  # begun by one site, to be answered by another as well


Policy = Callable[[State], Change]


def stay(state: State) -> Change:
    """No shard moves."""
    return Change()


def replan(state: State) -> Change:
    """Solve the programme anew for all shards that are not answered and may move."""
    return Change(replanning.moves_of(state.open_problem, [_standing(state, name) for name in state.sites]))


def watch(state: State) -> Change:
    """What a run that is watched does at a look; see `infra/watching/looking.py`, which decides by the same functions."""
    paces = {name: seen.pace for name, seen in state.sites.items() if seen.alive and seen.pace}
    left = {name: pace.remaining for name, pace in paces.items()}
    idle = (start_seconds(seen.site) for seen in state.sites.values() if seen.alive and not seen.pace)
    due = (
        state.joined
        or any(not seen.alive and seen.waiting for seen in state.sites.values())
        or any(pace.late for pace in paces.values())
        or can_help(left.values(), idle, state.patience.look)
    )
    if not due or (state.now < state.put_off and not state.joined):
        return Change()
    standings = [_standing(state, name) for name in state.sites]
    moves = replanning.decide(state.open_problem, standings)
    twice = [] if moves else replanning.duplicates(state.problem, standings, left)
    state.pause = 0.0 if moves or twice else state.patience.put_off(state.pause)
    state.put_off = state.now + state.pause
    return Change(moves, twice)


def _standing(state: State, name: str) -> Standing:
    """A site as the decisions see it. Of what it has begun as many shards as threads cannot be taken back."""
    seen = state.sites[name]
    place = replanning.as_seen(seen.site, seen.factor)
    begun: Queue = {}
    loose: Queue = {}
    kept: Queue = dict(seen.answered)
    threads = place.threads if seen.alive and seen.pace else 0
    busy = seen.pace.until_first if seen.pace else 0.0
    for key in in_turn(name, seen.waiting):
        n, resident = seen.waiting[key], state.origins[key[0]].resident
        first = min(n, threads)
        threads -= first
        busy += (n if resident else first) * shard_seconds(place, state.origins[key[0]], key[1])
        if first and not resident:
            begun[key] = first
        if n > first and not resident:
            loose[key] = n - first
        if stays := n - loose.get(key, 0):
            kept[key] = kept.get(key, 0) + stays
    return Standing(site=place, alive=seen.alive, warm=seen.warm, busy=busy, loose=loose, begun=begun, kept=kept)
