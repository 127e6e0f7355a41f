"""The events: what is answered by when, who dies, who is asked what should move."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.replanning import may_copy
from infra.simulator.policies import Policy, State, Worker, stay
from infra.simulator.worlds import CALM, World

if TYPE_CHECKING:
    from infra.placement import Problem, Solution

HELPED = 2000  # sites up to which an idle one looks for a straggler to help, and every death is planned for


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


def simulate(
    problem: Problem,
    plan: Solution,
    world: World = CALM,
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
        worker.done[key] = worker.done.get(key, 0) + count
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
        if not may_copy(state.problem):
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
