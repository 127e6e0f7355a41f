"""What a policy sees, and the policies: which shards that are not answered yet should move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra import replanning
from infra.replanning import Move, Queue, Standing, shard_seconds

if TYPE_CHECKING:
    from infra.placement import PlaceOrigin, PlaceSite, Problem


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
    done: Queue = field(default_factory=dict)  # answered
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
        worker = self.workers[name]
        return shard_seconds(worker.site, self.origins[origin], variant, worker.factor)

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


Policy = Callable[[State], list[Move]]


def stay(state: State) -> list[Move]:
    """No shard moves."""
    return []


def replan(state: State) -> list[Move]:
    """Solve the programme anew for all shards that are not answered and may move."""
    return _planned(state, set(state.workers))


def watch(state: State) -> list[Move]:
    """What a run that is watched does: move away from who is gone, else only for what is worth it."""
    return replanning.decide(state.problem, [_standing(state, name, True) for name in state.workers])


def evacuate(state: State, gone: str) -> list[Move]:
    """Solve it for the shards of one site only; what the others have is load that they have."""
    return _planned(state, {gone})


def _planned(state: State, loosened: set[str]) -> list[Move]:
    """A plan for what waits at these sites and may move; all else keeps its site busy for as long as it takes there."""
    return replanning.moves_of(state.problem, [_standing(state, name, name in loosened) for name in state.workers])


def _standing(state: State, name: str, loosened: bool) -> Standing:
    worker = state.workers[name]
    loose = {key: n for key, n in worker.waiting.items() if loosened and not state.origins[key[0]].resident}
    held = sum(n * state.shard_seconds(name, *key) for key, n in worker.waiting.items() if key not in loose)
    kept = worker.done | {key: n + worker.done.get(key, 0) for key, n in worker.waiting.items() if key not in loose}
    return Standing(
        site=worker.site, alive=worker.alive, factor=worker.factor, warm=worker.warm,
        busy=held + max(0.0, worker.free - state.now), loose=loose, kept=kept,
    )  # fmt: skip
