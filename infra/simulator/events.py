"""The events: what is answered by when, who dies, who is asked what should move."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.replanning import sent_beside
from infra.simulator.policies import Policy, Seen, State, stay
from infra.simulator.workers import Ground, Worker, in_turn
from infra.simulator.worlds import CALM, World, as_it_is
from infra.watching.state import USUAL, Patience

if TYPE_CHECKING:
    from infra.placement import Problem, Solution


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    seconds: float  # until every shard was answered; infinite if some never are
    answered: int  # shards, each once
    lost: int  # shards that no living site may answer
    duplicated: int  # shards that were answered twice
    moved: int  # shards that the policy moved
    plans: int  # looks at which it moved some
    events: int


def simulate(
    problem: Problem,
    plan: Solution,
    world: World = CALM,
    policy: Policy = stay,
    *,
    patience: Patience = USUAL,
) -> Outcome:
    """Run the plan.

    Args:
        problem: that was planned; shards of an origin are alike.
        plan: who answers how many.
        world: what the plan did not know.
        policy: asked at each look.
        patience: of who looks: how often, and after what silence a site is taken for dead.
    """
    return _Run(problem, plan, world, policy, patience).outcome()


class _Run:
    def __init__(self, problem: Problem, plan: Solution, world: World, policy: Policy, patience: Patience) -> None:
        real = as_it_is(problem, world).sites
        workers = {s.name: Worker(site, s) for site, s in zip(real, problem.sites, strict=True)}
        origins = {o.site: o for o in problem.origins}
        self.ground = Ground(0.0, workers, origins, dict.fromkeys(origins, 0.0))
        self.view = State(0.0, problem, {}, origins, patience)
        self.policy = policy
        self.heap: list[tuple[float, int, str, str, int]] = []
        self.order = self.events = self.moved = self.plans = self.duplicated = self.answered = 0
        self.last = 0.0
        self.escalated = 0.0  # rows for the first cloud
        self.total = sum(o.shards for o in problem.origins)
        for (o, i, v), n in plan.counts.items():
            self._add(i, (o, v), n)
        joiners = {name for _, name in world.returns} - {name for _, name in world.deaths}
        for name in joiners & set(workers):
            workers[name].alive, workers[name].gone = False, True
        for when, name in world.deaths:
            self._push(when, "death", name)
        for when, name in world.returns:
            self._push(when, "return", name)
        for name, worker in workers.items():
            others = any(o != name for o, _ in worker.waiting)
            worker.hand(0.0, origins, plan.seconds if others else plan.site_seconds.get(name, 0.0))
            self._begin(name)
        self.between = patience.between(max((w.order.pace.planned for w in workers.values() if w.order), default=0.0))
        self._push(self.between, "look", "")

    def _push(self, when: float, kind: str, name: str, version: int = 0) -> None:
        heapq.heappush(self.heap, (when, self.order, kind, name, version))
        self.order += 1

    def _begin(self, name: str) -> None:
        """Take up what waits: unless that changes again, the site is finished when `remaining` says."""
        worker, now = self.ground.workers[name], self.ground.now
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
        self._push(now + self.ground.remaining(name), "finished", name, worker.version)

    def _add(self, name: str, key: tuple[str, str], count: int) -> None:
        worker = self.ground.workers[name]
        worker.waiting[key] = worker.waiting.get(key, 0) + count
        if key[0] != name:
            worker.coming[key] = worker.coming.get(key, 0.0) + count
            self.ground.leaving[key[0]] += count

    def _remove(self, name: str, key: tuple[str, str], count: int) -> None:
        """Those that have not arrived are the first to go elsewhere."""
        worker = self.ground.workers[name]
        worker.waiting[key] -= count
        if not worker.waiting[key]:
            del worker.waiting[key]
        self._arrived(worker, key, min(float(count), worker.coming.get(key, 0.0)))

    def _arrived(self, worker: Worker, key: tuple[str, str], count: float) -> None:
        if count > 0:
            worker.coming[key] -= count
            self.ground.leaving[key[0]] -= count
            if worker.coming[key] <= 1e-9:
                del worker.coming[key]

    def _fetched(self, worker: Worker, key: tuple[str, str], count: float) -> None:
        if key[0] in self.ground.workers:
            self.ground.workers[key[0]].sent += count * self.ground.origins[key[0]].bytes
        self._arrived(worker, key, count)

    def _settle(self, name: str) -> None:
        """Count what has arrived at a site and what it has answered by now; its own first, then by name."""
        worker, now = self.ground.workers[name], self.ground.now
        before, worker.seen = worker.seen, now
        if not worker.alive or not worker.waiting:
            return
        durations = {key: self.ground.arrival(name, key[0]) for key in worker.coming}
        came = dict.fromkeys(worker.waiting, before)  # since when the first of them that is there may be taken up
        for key, seconds in durations.items():
            coming = worker.coming[key]
            if worker.waiting[key] - coming < 1:
                came[key] += seconds / coming
            self._fetched(worker, key, coming * (min(1.0, (now - before) / seconds) if seconds > 0 else 1.0))
        for key in in_turn(name, worker.waiting):
            each = self.ground.shard_seconds(name, *key)
            there = math.floor(worker.waiting[key] - worker.coming.get(key, 0.0) + 1e-9)
            able = there if each == 0 else math.floor(max(0.0, now - worker.free) / each + 1e-9)
            if worker.order and worker.order.first is None and min(there, able) > 0:
                worker.order.first = min(now, max(worker.free, came[key]) + each)
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
        worker.answered[key] = worker.answered.get(key, 0) + count
        self.answered += count
        self.last = max(self.last, self.ground.now)
        if not worker.site.cloud:
            share = next(v.escalation for v in worker.site.variants if v.name == key[1])
            rows = count * self.ground.origins[key[0]].rows * share
            self.escalated += rows
            worker.sent += rows * self.view.problem.record_bytes

    def _look(self) -> None:
        """Hear how far the sites are, ask the policy, and do what it says."""
        for name in self.ground.workers:
            self._settle(name)
            self._hear(name)
        self.view.now = self.ground.now
        self.view.sites = {
            name: Seen(
                w.measured, not w.gone, w.handed, w.factor, w.pace(self.ground.now), dict(w.waiting), dict(w.answered)
            )
            for name, w in self.ground.workers.items()
        }
        change = self.policy(self.view)
        self.view.joined = False
        self.view.sent_beside += sent_beside(self.view.problem, change.moves)
        self.moved += sum(n for *_, n in change.moves)
        self.duplicated += sum(n for *_, n in change.twice)
        self.plans += bool(change.moves or change.twice)
        touched = set()
        for frm, o, v, to, variant, n in (*change.moves, *change.twice):  # of two answers that of the copy counts
            self._withdraw(frm, n)
            self._remove(frm, (o, v), n)
            self._add(to, (o, variant), n)
            touched |= {frm, to}
        for name in sorted(touched):
            self._next_order(name)
            self._begin(name)

    def _hear(self, name: str) -> None:
        """Who has said nothing for a lease is taken for dead; of others the speed is seen."""
        worker, now = self.ground.workers[name], self.ground.now
        if not worker.alive:
            if not worker.gone and now - worker.died > self.view.patience.lease:
                worker.gone, self.view.put_off = True, 0.0
        elif worker.gone:
            worker.gone = False
            self.view.joined |= not worker.handed
        self._next_order(name)
        pace = worker.pace(now)
        if pace and not worker.gone:
            worker.saw(pace.each / pace.factor)

    def _next_order(self, name: str) -> None:
        """What more it was given is handed over when its order is done."""
        worker = self.ground.workers[name]
        if worker.open <= 0:
            order, more = worker.order, worker.done - worker.order.done - 1 if worker.order else 0
            if order and order.first is not None and more > 0 and not worker.gone:
                worker.saw((worker.free - order.first) / more)
            worker.hand(self.ground.now, self.ground.origins)

    def _withdraw(self, name: str, count: int) -> None:
        """Those that no order has are the first to go, then those at the end of its order."""
        worker = self.ground.workers[name]
        if worker.order:
            later = sum(worker.waiting.values()) - worker.open
            worker.order.withdrawn += max(0, count - later)

    def _is_waited_for(self, worker: Worker) -> bool:
        lost = worker.gone and self.ground.now > worker.died + self.view.patience.give_up
        return bool(worker.waiting) and not lost

    def outcome(self) -> Outcome:
        """Run until nothing is left to happen."""
        ground = self.ground
        while self.heap and self.answered < self.total:
            ground.now, _, kind, name, version = heapq.heappop(self.heap)
            self.events += 1
            if kind == "look":
                self._look()
                if self.heap or any(self._is_waited_for(worker) for worker in ground.workers.values()):
                    self._push(ground.now + self.between, "look", "")
                continue
            worker = ground.workers[name]
            if kind == "finished":
                if version != worker.version or not worker.alive:
                    continue
                for key in list(worker.coming):
                    self._fetched(worker, key, worker.coming[key])
                for key in list(worker.waiting):
                    self._answer(worker, key, worker.waiting[key])
                worker.free = worker.seen = ground.now
                self._next_order(name)
            elif kind == "death":
                self._settle(name)
                worker.alive, worker.warm, worker.died = False, False, ground.now
                worker.version += 1
            else:
                worker.alive = True
                worker.seen = ground.now
                self._begin(name)
        lost = self.total - self.answered
        return Outcome(
            seconds=math.inf if lost else self._end(),
            answered=self.answered, lost=lost, duplicated=self.duplicated, moved=self.moved,
            plans=self.plans, events=self.events,
        )  # fmt: skip

    def _end(self) -> float:
        """When all is sent, and the first cloud has answered what was escalated as well."""
        edges = [worker for worker in self.ground.workers.values() if not worker.site.cloud]
        self.last = max([self.last, *(worker.sent / worker.site.up for worker in edges)])
        cloud = next((w for w in self.ground.workers.values() if w.site.cloud), None)
        if cloud is None or not self.escalated:
            return self.last
        first = cloud.site.variants[0]
        cold = 0.0 if cloud.done else first.startup_seconds
        again = self.escalated * first.seconds_per_row / cloud.site.threads
        return self.last + cloud.site.dispatch_seconds + cold + again
