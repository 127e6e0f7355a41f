"""Discrete-event simulation of the planner's own model: many sites, no inference, the same answer for the same seed.

A site answers its own shards first; others' shards come over its link meanwhile, the stages overlapped as in the
engine, and links are shared evenly. Shards are counts, so time and memory grow with sites and events, not with shards.
What the plan knew may be wrong: sites are slower or faster than measured, die, come back, or join. What a dead site has
answered is in the ledger and stays; what it had begun is lost.

A policy is asked when a site dies, comes back or joins, and at fixed intervals. It moves shards that have not been
answered and may move: `replan` solves the programme again for them, with the rates seen so far; `stay` does nothing.
Near the end an idle site may take shards from the back of the slowest one's queue.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from data_catalog.errors import PlanError
from infra.placement import PlaceOrigin, PlaceSite, PlaceVariant, Problem, Solution
from infra.placement.programme import place

HELPED = 2000  # sites up to which an idle one looks for a straggler to help, and every death is planned for
Queue = dict[tuple[str, str], int]  # (origin, variant) -> shards


@dataclass(frozen=True, slots=True)
class World:
    """What really happens, as the plan does not know it."""

    speed: dict[str, float] = field(default_factory=dict)  # by site: times the measured speed; 1 unless named
    deaths: tuple[tuple[float, str], ...] = ()  # seconds, site
    returns: tuple[tuple[float, str], ...] = ()  # seconds, site: one that died, or one that joins then


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    seconds: float  # until every shard was answered; infinite if some never are
    answered: int  # shards, each once
    lost: int  # shards that no living site may answer
    duplicated: int  # shards that were answered twice
    moved: int  # shards that the policy moved
    plans: int  # how often it was asked and moved some
    events: int


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


def simulate(
    problem: Problem,
    plan: Solution,
    world: World = World(),
    policy: Policy = stay,
    *,
    every: float = math.inf,
    duplicate: bool = False,
) -> Outcome:
    """Run the plan.

    Args:
        problem: that was planned; shards of an origin are alike.
        plan: who answers how many.
        world: what the plan did not know.
        policy: asked after every death and return.
        every: seconds after which it is asked as well.
        duplicate: idle sites answer again what stragglers have not, as long as that may end the run sooner.
    """
    return _Run(problem, plan, world, policy, every, duplicate).outcome()


class _Run:
    def __init__(
        self, problem: Problem, plan: Solution, world: World, policy: Policy, every: float, duplicate: bool
    ) -> None:
        workers = {s.name: Worker(s, world.speed.get(s.name, 1.0)) for s in problem.sites}
        origins = {o.site: o for o in problem.origins}
        self.state = State(0.0, problem, workers, origins, dict.fromkeys(origins, 0.0))
        self.policy, self.every, self.duplicate = policy, every, duplicate
        self.heap: list[tuple[float, int, str, str, int]] = []
        self.order = self.events = self.moved = self.plans = self.duplicated = self.answered = 0
        self.last, self.asked = 0.0, -math.inf
        self.escalated = 0.0  # rows for the first cloud
        self.total = sum(o.shards for o in problem.origins)
        for (o, i, v), n in plan.counts.items():
            self._add(i, (o, v), n)
        joiners = {name for _, name in world.returns} - {name for _, name in world.deaths}
        for name in joiners & set(workers):
            workers[name].alive = False
        for when, name in world.deaths:
            self._push(when, "death", name)
        for when, name in world.returns:
            self._push(when, "return", name)
        if math.isfinite(every):
            self._push(every, "tick", "")
        for name in workers:
            self._begin(name)

    def _push(self, when: float, kind: str, name: str, version: int = 0) -> None:
        heapq.heappush(self.heap, (when, self.order, kind, name, version))
        self.order += 1

    def _begin(self, name: str) -> None:
        """Take up what waits: unless that changes again, the site is finished when `remaining` says."""
        worker, now = self.state.workers[name], self.state.now
        worker.version += 1
        if not worker.alive or not worker.waiting:
            return
        if not worker.warm:
            startup = max(
                next(s for s in worker.site.variants if s.name == v).startup_seconds for _, v in worker.waiting
            )
            worker.free = now + worker.site.dispatch_seconds + startup + worker.site.busy_seconds
            worker.warm = True
        worker.free = max(worker.free, now)
        self._push(now + self.state.remaining(name), "finished", name, worker.version)

    def _add(self, name: str, key: tuple[str, str], count: int) -> None:
        worker = self.state.workers[name]
        worker.waiting[key] = worker.waiting.get(key, 0) + count
        if key[0] != name:
            worker.coming[key] = worker.coming.get(key, 0.0) + count
            self.state.leaving[key[0]] += count

    def _remove(self, name: str, key: tuple[str, str], count: int) -> None:
        """Those that have not arrived are the first to go elsewhere."""
        worker = self.state.workers[name]
        worker.waiting[key] -= count
        if not worker.waiting[key]:
            del worker.waiting[key]
        self._arrived(worker, key, min(float(count), worker.coming.get(key, 0.0)))

    def _arrived(self, worker: Worker, key: tuple[str, str], count: float) -> None:
        if count > 0:
            worker.coming[key] -= count
            self.state.leaving[key[0]] -= count
            if worker.coming[key] <= 1e-9:
                del worker.coming[key]

    def _fetched(self, worker: Worker, key: tuple[str, str], count: float) -> None:
        if key[0] in self.state.workers:
            self.state.workers[key[0]].sent += count * self.state.origins[key[0]].bytes
        self._arrived(worker, key, count)

    def _settle(self, name: str) -> None:
        """Count what has arrived at a site and what it has answered by now; its own first, then by name."""
        worker, now = self.state.workers[name], self.state.now
        span, worker.seen = now - worker.seen, now
        if not worker.alive or not worker.waiting:
            return
        durations = {key: self.state.arrival(name, key[0]) for key in worker.coming}
        for key, seconds in durations.items():
            self._fetched(worker, key, worker.coming[key] * (min(1.0, span / seconds) if seconds > 0 else 1.0))
        for key in sorted(worker.waiting, key=lambda key: (key[0] != name, key)):
            each = self.state.shard_seconds(name, *key)
            there = math.floor(worker.waiting[key] - worker.coming.get(key, 0.0) + 1e-9)
            able = there if each == 0 else math.floor(max(0.0, now - worker.free) / each + 1e-9)
            worker.free += min(there, able) * each
            self._answer(worker, key, min(there, able))
            if able < there:
                return
        worker.free = max(worker.free, now)

    def _answer(self, worker: Worker, key: tuple[str, str], count: int) -> None:
        if count <= 0:
            return
        worker.waiting[key] -= count
        if not worker.waiting[key]:
            del worker.waiting[key]
        worker.done += count
        self.answered += count
        self.last = max(self.last, self.state.now)
        if not worker.site.cloud:
            share = next(v.escalation for v in worker.site.variants if v.name == key[1])
            rows = count * self.state.origins[key[0]].rows * share
            self.escalated += rows
            worker.sent += rows * self.state.problem.record_bytes

    def _ask(self, *, soon: bool = False) -> None:
        if soon and len(self.state.workers) > HELPED and self.state.now < self.asked + self.every:
            return  # a plan for so many sites is worth its time only now and then
        self.asked = self.state.now
        for name in self.state.workers:
            self._settle(name)
        touched = set()
        for frm, o, v, to, variant, n in self.policy(self.state):
            self._remove(frm, (o, v), n)
            self._add(to, (o, variant), n)
            self.moved += n
            touched |= {frm, to}
        self.plans += bool(touched)
        for name in sorted(touched):
            self._begin(name)

    def _help(self, name: str) -> None:
        """An idle site takes shards of the slowest from the back of its queue, so that both end together.

        The one that the slowest has begun when they meet is answered twice: the ledger takes the first answer.
        """
        state = self.state
        if not self.duplicate or not state.workers[name].alive or len(state.workers) > HELPED:
            return
        for each in state.workers:
            self._settle(each)
        late = max(
            sorted(state.workers), key=lambda n: state.remaining(n) if n != name and state.workers[n].waiting else 0.0
        )
        left = state.remaining(late)
        variant = state.workers[name].site.variants[0].name
        for (o, v), n in sorted(state.workers[late].waiting.items()):
            here, there = state.shard_seconds(name, o, variant), state.shard_seconds(late, o, v)
            home = state.workers.get(o)
            here = max(here, state.origins[o].bytes / state.workers[name].site.down)
            here = max(here, 0.0 if home is None or home.site.cloud else state.origins[o].bytes / home.site.up)
            share = int(n * there / (here + there)) if state.workers[late].alive and here + there > 0 else n
            if late != name and not state.origins[o].resident and share >= 1 and share * here < left:
                self._remove(late, (o, v), share)
                self._add(name, (o, variant), share)
                self.duplicated += state.workers[late].alive
                self._begin(late)
                self._begin(name)
                return

    def outcome(self) -> Outcome:
        """Run until nothing is left to happen."""
        state = self.state
        while self.heap and self.answered < self.total:
            state.now, _, kind, name, version = heapq.heappop(self.heap)
            self.events += 1
            if kind == "tick":
                self._ask()
                if self.heap:
                    self._push(state.now + self.every, "tick", "")
                continue
            worker = state.workers[name]
            if kind == "finished":
                if version != worker.version or not worker.alive:
                    continue
                for key in list(worker.coming):
                    self._fetched(worker, key, worker.coming[key])
                for key in list(worker.waiting):
                    self._answer(worker, key, worker.waiting[key])
                worker.free = worker.seen = state.now
                self._help(name)
            elif kind == "death":
                self._settle(name)
                worker.alive, worker.warm = False, False
                worker.version += 1
                self._ask(soon=True)
            else:
                worker.alive = True
                worker.seen = state.now
                self._begin(name)
                self._ask(soon=True)
        lost = self.total - self.answered
        return Outcome(
            seconds=math.inf if lost else self._end(),
            answered=self.answered, lost=lost, duplicated=self.duplicated, moved=self.moved,
            plans=self.plans, events=self.events,
        )  # fmt: skip

    def _end(self) -> float:
        """When all is sent, and the first cloud has answered what was escalated as well."""
        edges = [worker for worker in self.state.workers.values() if not worker.site.cloud]
        self.last = max([self.last, *(worker.sent / worker.site.up for worker in edges)])
        cloud = next((w for w in self.state.workers.values() if w.site.cloud), None)
        if cloud is None or not self.escalated:
            return self.last
        first = cloud.site.variants[0]
        cold = 0.0 if cloud.done else first.startup_seconds
        again = self.escalated * first.seconds_per_row / cloud.factor / cloud.site.threads
        return self.last + cloud.site.dispatch_seconds + cold + again


def random_problem(
    sites: int, shards: int, seed: int, *, resident: float = 0.2, escalation: float = 0.05, spread: float = 30.0
) -> Problem:
    """A problem of that size: speeds, links and shards of very different sites, one cloud for a hundred edges.

    Args:
        sites: how many.
        shards: of all origins together, about.
        seed: of everything.
        resident: share of the edges whose shards may not leave.
        escalation: share of rows that the edges send on.
        spread: the fastest edge's speed over the slowest's.
    """
    rng = np.random.default_rng(seed)
    clouds = max(1, sites // 100)
    edges = sites - clouds
    speed = np.exp(rng.uniform(0, math.log(spread), sites)) * np.where(np.arange(sites) < clouds, 20.0, 1.0)
    up = 10 ** rng.uniform(5.5, 8, sites) * np.where(np.arange(sites) < clouds, 100.0, 1.0)
    startup = rng.uniform(0.1, 2, sites)
    weight = rng.lognormal(0, 0.7, max(edges, 1))
    born = np.maximum(1, rng.multinomial(shards, weight / weight.sum()))
    stays = rng.random(max(edges, 1)) < resident
    made = tuple(
        PlaceSite(
            name=f"{'cloud' if i < clouds else 'edge'}-{i}", cloud=i < clouds, host=f"host-{i}", host_cores=4, threads=1,
            variants=(PlaceVariant(
                name="v", seconds_per_row=1e-3 / float(speed[i]), startup_seconds=float(startup[i]),
                escalation=0.0 if i < clouds else escalation,
            ),),
            dispatch_seconds=0.1, latency_seconds=0.005, up=float(up[i]), down=3 * float(up[i]),
        )
        for i in range(sites)
    )  # fmt: skip
    origins = tuple(
        PlaceOrigin(site=made[clouds + k].name, shards=int(born[k]), rows=200.0, bytes=5e4, resident=bool(stays[k]))
        for k in range(edges)
    )
    return Problem(sites=made, origins=origins, record_bytes=250.0)


def random_world(
    problem: Problem, seed: int, *, noise: float = 0.2, deaths: float = 0.05, within: float = 1.0
) -> World:
    """What may happen: speeds off by a log-normal factor, some edges die within these seconds and half return.

    Args:
        problem: whose sites they are.
        seed: of everything.
        noise: standard deviation of the logarithm of a site's speed over its measured one.
        deaths: share of the edges.
        within: seconds of the first part, about.
    """
    rng = np.random.default_rng(seed)
    speed = {
        site.name: float(factor)
        for site, factor in zip(problem.sites, np.exp(rng.normal(0, noise, len(problem.sites))), strict=True)
    }
    edges = [site.name for site in problem.sites if not site.cloud]
    dead = [name for name in edges if rng.random() < deaths]
    when = rng.uniform(0, within, len(dead))
    back = when + rng.uniform(0.1, 0.5, len(dead)) * within
    return World(
        speed=speed,
        deaths=tuple(sorted((float(t), name) for t, name in zip(when, dead, strict=True))),
        returns=tuple(sorted((float(t), name) for t, name in zip(back, dead, strict=True))),
    )
