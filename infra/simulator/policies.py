"""What a policy sees, and the policies: which shards that are not answered yet should move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.placement.programme import place

if TYPE_CHECKING:
    from infra.placement import PlaceOrigin, PlaceSite, Problem, Solution

Queue = dict[tuple[str, str], int]  # (origin, variant) -> shards


@dataclass(slots=True)
class Worker:
    """One site: what waits for it, what of that has arrived, and since when it works."""

    site: PlaceSite
    factor: float
    alive: bool = True
    waiting: Queue = field(default_factory=dict)  # not answered
    coming: dict[tuple[str, str], float] = field(default_factory=dict)  # of those, others' shards not yet arrived
    free: float = 0.0  # when it may take up the next shard: after its start, and what it has begun
    seen: float = 0.0  # when it was looked at last
    version: int = 0  # of its finishing event; older ones are void
    warm: bool = False
    done: int = 0  # shards answered
    sent: float = 0.0  # bytes up its link: shards that others answer, and escalated rows


@dataclass(slots=True)
class State:
    """What a policy sees."""

    now: float
    problem: Problem
    workers: dict[str, Worker]
    origins: dict[str, PlaceOrigin]
    leaving: dict[str, float]  # by origin: shards still on their way from it

    def shard_seconds(self, name: str, origin: str, variant: str) -> float:
        """Seconds between two shards of that origin at that site, at the rate that was seen there."""
        worker, born = self.workers[name], self.origins[origin]
        site = worker.site
        per_row = next(v.seconds_per_row for v in site.variants if v.name == variant) / worker.factor
        return max(born.rows * per_row, site.latency_seconds) / min(site.threads, site.host_cores)

    def arrival(self, name: str, origin: str) -> float:
        """Seconds until what still comes from that origin is there: its up-link and this down-link are shared evenly."""
        home, worker = self.workers.get(origin), self.workers[name]
        sent = (
            0.0 if home is None or home.site.cloud else self.leaving[origin] * self.origins[origin].bytes / home.site.up
        )
        received = sum(n * self.origins[o].bytes for (o, _), n in worker.coming.items()) / worker.site.down
        return max(sent, received)

    def remaining(self, name: str) -> float:
        """Seconds from now until a site has answered all that waits for it."""
        worker = self.workers[name]
        each = {key: self.shard_seconds(name, *key) for key in worker.waiting}
        work = max(0.0, worker.free - self.now) + sum(n * each[key] for key, n in worker.waiting.items())
        return max([work, *(self.arrival(name, key[0]) + each[key] for key, n in worker.coming.items() if n > 0)])


Move = tuple[str, str, str, str, str, int]  # from site, origin, variant, to site, variant, shards
Policy = Callable[[State], list[Move]]


def stay(state: State) -> list[Move]:
    """No shard moves."""
    return []


def replan(state: State) -> list[Move]:
    """Solve the programme anew for all shards that are not answered and may move."""
    return _planned(state, set(state.workers))


def evacuate(state: State, gone: str) -> list[Move]:
    """Solve it for the shards of one site only; what the others have is load that they have."""
    return _planned(state, {gone})


def _planned(state: State, loosened: set[str]) -> list[Move]:
    """A plan for what waits at these sites and may move; all else keeps its site busy for as long as it takes there."""
    living = {name: worker for name, worker in state.workers.items() if worker.alive}
    loose: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    busy: dict[str, float] = {}
    for name, worker in state.workers.items():
        held = max(0.0, worker.free - state.now)
        for (o, v), n in worker.waiting.items():
            if state.origins[o].resident or name not in loosened:
                held += n * state.shard_seconds(name, o, v)
            else:
                loose[o].append((name, v, n))
        busy[name] = held
    if not loose or not living:
        return []
    problem = replace(
        state.problem,
        sites=tuple(_as_seen(worker, busy[name]) for name, worker in living.items()),
        origins=tuple(replace(state.origins[o], shards=sum(n for *_, n in parts)) for o, parts in loose.items()),
    )
    try:
        return _moves(loose, place(problem))
    except PlanError:
        return []  # as where no cloud is left to escalate to: what waits, waits for a site to come back


def _as_seen(worker: Worker, busy: float) -> PlaceSite:
    cold = 0.0 if worker.warm else 1.0
    variants = tuple(
        replace(v, seconds_per_row=v.seconds_per_row / worker.factor, startup_seconds=cold * v.startup_seconds)
        for v in worker.site.variants
    )
    return replace(
        worker.site, variants=variants, busy_seconds=busy, dispatch_seconds=cold * worker.site.dispatch_seconds
    )


def _moves(loose: dict[str, list[tuple[str, str, int]]], solution: Solution) -> list[Move]:
    """From where shards wait to where they should; those that are there already stay."""
    wanted: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for (o, i, v), n in solution.counts.items():
        wanted[o][i, v] = n
    moves: list[Move] = []
    for o, parts in loose.items():
        open_places = dict(wanted[o])
        over = []
        for name, v, n in parts:
            kept = min(n, open_places.get((name, v), 0))
            open_places[name, v] = open_places.get((name, v), 0) - kept
            over.append((name, v, n - kept))
        places = [(place_, n) for place_, n in open_places.items() if n > 0]
        for name, v, n in over:
            while n > 0:
                (to, variant), room = places.pop()
                step = min(n, room)
                moves.append((name, o, v, to, variant, step))
                n -= step
                if room > step:
                    places.append(((to, variant), room - step))
    return moves
