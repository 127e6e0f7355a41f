"""When and how a plan is changed while it runs: pure decisions, for a run that is watched and for the simulator.

What has not been begun and may move is loose. The programme is solved again for it, with the speeds that were seen; what
a site keeps makes it busy for a while. Shards move away from a site that is gone; otherwise only if that brings the
end nearer by more than it costs and by more than a margin, because a prediction is never exact (hysteresis).

The floor of accuracy and a cap on bytes are of the whole plan, so what is loose gets what the rest leaves of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.placement import unescalated
from infra.placement.programme import costs_of, place, predict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.placement import Objective, PlaceOrigin, PlaceSite, Problem, Solution

MARGIN = (
    0.25  # share of a prediction by which it may be missed before anything is done; and of what remains, to be gained
)
LEAST_SECONDS = 1.0  # lateness that is not worth a look
START_SECONDS = (
    5.0  # by which a first answer may be late: a start is known the worst, as where a library is loaded first
)
HANGS = 0.25  # times the margin: what waits takes a smaller share of what is begun than that, so no move of it can be worth it
EVIDENCE = 2.0  # shards that should have been answered since the first one, before a speed is believed
FASTEST, SLOWEST = 1.0, 0.001  # times the measured speed: no more is believed of what was seen

Queue = dict[tuple[str, str], int]  # (origin, variant) -> shards
Move = tuple[str, str, str, str, str, int]  # from site, origin, variant, to site, variant, shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """An order under way: what was planned, and what was seen. Seconds."""

    shards: int  # to compute
    start: float  # from handing it over until the first shard is begun, as planned
    each: float  # between two shards, as planned
    elapsed: float  # since it was handed over
    withdrawn: int = 0  # shards
    answered: int = 0
    since_first: float = 0.0  # since the first answer

    @property
    def planned(self) -> float:
        """From handing it over to its end."""
        return self.start + self.shards * self.each

    @property
    def factor(self) -> float:
        """The speed that was seen, times the planned one; 1 while there is nothing to tell it from.

        The first answer says how long the start took, those after it how fast the site is. At any time half a shard more
        is done than is counted.
        """
        if self.each <= 0 or not self.answered or self.since_first <= EVIDENCE * self.each:
            return 1.0
        return (self.answered - 0.5) * self.each / self.since_first

    @property
    def until_first(self) -> float:
        """Seconds until the site begins its first shard. What is overdue takes as long again as it took so far."""
        if self.answered:
            return 0.0
        overdue = self.elapsed > (1 + MARGIN) * (self.start + self.each) + START_SECONDS
        return self.elapsed if overdue else max(0.0, self.start - self.elapsed)

    @property
    def remaining(self) -> float:
        """Seconds until its end, at the speed that was seen."""
        left = max(0, self.shards - self.withdrawn - self.answered)
        return left * self.each / self.factor + self.until_first

    @property
    def late(self) -> bool:
        """Whether it ends later than planned by more than the margin."""
        least = LEAST_SECONDS if self.answered else START_SECONDS
        return self.elapsed + self.remaining - self.planned > max(MARGIN * self.planned, least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A site in the middle of a run."""

    site: PlaceSite  # with the speed that was seen
    alive: bool = True
    warm: bool = False  # whether it has started already
    busy: float = 0.0  # seconds until it has answered what it keeps
    loose: Queue = field(default_factory=dict)  # what waits there and may go elsewhere
    begun: Queue = field(default_factory=dict)  # of what it keeps: what may be answered elsewhere as well
    kept: Queue = field(default_factory=dict)  # all that it has answered and will answer, beside what is loose


def shard_seconds(site: PlaceSite, origin: PlaceOrigin, variant: str) -> float:
    """Seconds between two shards of that origin at that site.

    Args:
        site: with its threads at work.
        origin: of the shards.
        variant: that answers.
    """
    per_row = next(v.seconds_per_row for v in site.variants if v.name == variant)
    return max(origin.rows * per_row, site.latency_seconds) / min(site.threads, site.host_cores)


# --- what is seen of a site -------------------------------------------------------------------------------------


def expected(shards: int, work: float, start: float, planned: float = 0.0) -> Pace:
    """The pace of an order that is handed over now.

    Args:
        shards: to compute.
        work: seconds between two of them, if no link is waited for.
        start: seconds until the first is begun.
        planned: seconds in all, where a plan says so: a link may take longer than the work.
    """
    each = max(work, (planned - start) / shards) if shards else work
    return Pace(shards=shards, start=start, each=each, elapsed=0.0)


def start_seconds(site: PlaceSite) -> float:
    """From handing a site an order until it begins its first shard."""
    return site.dispatch_seconds + max((v.startup_seconds for v in site.variants), default=0.0)


def believed(pace: Pace, work: float, seconds: float, before: float) -> float:
    """The speed of a site, times the measured one, within reason; where links were planned to be waited for, only what is more.

    Args:
        pace: of the order that it has.
        work: seconds between two shards, if no link is waited for.
        seconds: that were seen between two.
        before: what was believed until now: stands where nothing was seen.
    """
    measured = work if seconds > (1 + MARGIN) * pace.each else pace.each
    return min(FASTEST, max(SLOWEST, measured / seconds)) if seconds > 0 and measured > 0 else before


def as_seen(site: PlaceSite, factor: float) -> PlaceSite:
    """The site at that speed, times the measured one: what made it slow, rows or the store, is not known."""
    if factor == 1:
        return site
    variants = tuple(replace(v, seconds_per_row=v.seconds_per_row / factor) for v in site.variants)
    return replace(site, variants=variants, latency_seconds=site.latency_seconds / factor)


def can_help(left: Iterable[float], starts: Iterable[float], least: float) -> bool:
    """Whether an idle site could help: another needs more than twice the time of its start.

    Args:
        left: seconds until each that works has ended.
        starts: seconds that each idle one takes to start.
        least: seconds that count as a start where that is less.
    """
    return max(left, default=0.0) > 2 * max(min(starts, default=math.inf), least)


# --- what is done about it --------------------------------------------------------------------------------------


def decide(problem: Problem, standings: Sequence[Standing], margin: float = MARGIN) -> list[Move]:
    """What should move now; nothing if that gains too little.

    Where a site is gone, what lies there is placed among the others, and nothing else moves; outside the caps, if there is no
    place within them. If the plan is for something else than the makespan, or has a cap on money, that is all that is done:
    what was planned is kept. A floor of accuracy holds in any case, and a cap on bytes wherever nobody is gone.

    Args:
        problem: as it was planned; its counts and its sites' loads are not looked at. Of a cap on bytes what earlier changes
            sent for nothing is taken off (`sent_beside`).
        standings: of its sites, and of those that have joined.
        margin: share of the remaining seconds that a change has to gain.
    """
    gone = any(not each.alive and each.loose for each in standings)
    if gone:
        standings = [_holding(problem, each) if each.alive else each for each in standings]
    elif problem.objective != "makespan" or "money" in problem.caps:
        return []
    rest, solution = _solved(problem, standings)
    if gone and solution is None and "bytes" in problem.caps:
        rest, solution = _solved(replace(problem, caps={}), standings)
    if rest is None or solution is None:
        return []
    found = moves(standings, solution)
    if gone or not found:
        return found
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in standings:
        for (o, v), n in each.loose.items():
            counts[o, each.site.name, v] += n
    now, _ = predict(rest, dict(counts))
    reached = {move[3] for move in found}
    cost = max(start_seconds(each.site) for each in standings if each.site.name in reached)
    worth = now - solution.seconds > max(margin * now, cost)
    return found if worth and _within(problem, standings, found) else []


def _within(problem: Problem, standings: Iterable[Standing], made: Sequence[Move]) -> bool:
    """Whether these moves keep the cap on bytes, if there is one."""
    return "bytes" not in problem.caps or bytes_after(problem, standings, made) <= problem.caps["bytes"]


def bytes_after(problem: Problem, standings: Iterable[Standing], made: Sequence[Move]) -> float:
    """Bytes over the edges' links of all that is kept and loose, when these moves are made, and of what they send beside that."""
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in standings:
        for (o, v), n in (*each.kept.items(), *each.loose.items()):
            counts[o, each.site.name, v] += n
    for frm, o, v, to, variant, n in made:
        counts[o, frm, v] -= n
        counts[o, to, variant] += n
    return costs_of(problem, {key: n for key, n in counts.items() if n})["bytes"] + sent_beside(problem, made)


def sent_beside(problem: Problem, made: Iterable[Move]) -> float:
    """Bytes that moves cost the edges' links at most, beside those of the shards where they will be: a plan has no place for them.

    They are the way of a shard to a site that gives it away again, and what a shard that was to stay has more than a packed one.
    """
    edges, origins = {site.name: not site.cloud for site in problem.sites}, {o.site: o for o in problem.origins}
    total = 0.0
    for frm, o, _, to, _, n in made:
        packed, kept = origins[o].bytes, origins[o].kept_bytes
        more = max(packed, kept) if frm != o else max(0.0, kept - packed)
        total += n * more * (edges.get(o, True) + edges[to if frm == o else frm])
    return total


def less_sent(problem: Problem, beside: float) -> Problem:
    """The same with so many bytes less in the cap on them, if there is one: what earlier changes sent for nothing (`sent_beside`)."""
    caps = {name: cap - beside if name == "bytes" else cap for name, cap in problem.caps.items()}
    return replace(problem, caps=caps)


def moves_of(problem: Problem, standings: Sequence[Standing]) -> list[Move]:
    """What the best plan for all that is loose moves, however little that gains."""
    _, solution = _solved(problem, standings)
    return moves(standings, solution) if solution else []


def _solved(problem: Problem, standings: Sequence[Standing]) -> tuple[Problem | None, Solution | None]:
    """What is left, and its plan; none where no plan is: what waits, waits for a site to come back."""
    rest = remainder(problem, standings)
    try:
        return rest, place(rest) if rest else None
    except PlanError:
        return rest, None


def _holding(problem: Problem, standing: Standing) -> Standing:
    """The same where nothing is loose: what waits there keeps it busy, and is kept."""
    origins = {origin.site: origin for origin in problem.origins}
    work = sum(n * shard_seconds(standing.site, origins[o], v) for (o, v), n in standing.loose.items())
    kept = {key: standing.kept.get(key, 0) + standing.loose.get(key, 0) for key in (*standing.kept, *standing.loose)}
    return replace(standing, busy=standing.busy + work, loose={}, kept=kept)


def remainder(problem: Problem, standings: Iterable[Standing]) -> Problem | None:
    """What is left to plan: the loose shards, and the living sites as they were seen; None if there is either none.

    Its floor is what the loose shards have to reach for all to reach the plan's; of its caps only that on bytes is left,
    less what is kept. Without a cloud nothing can be escalated, so nothing is counted for it.
    """
    standings = list(standings)
    counts: dict[str, int] = defaultdict(int)
    for each in standings:
        for (origin, _), n in each.loose.items():
            counts[origin] += n
    living = [_as_it_stands(each) for each in standings if each.alive]
    if not living or not sum(counts.values()):
        return None
    if not any(site.cloud for site in living):
        living = [unescalated(site) for site in living]
    origins = tuple(replace(o, shards=counts[o.site], resident=False) for o in problem.origins if counts.get(o.site))
    caps: dict[Objective, float] = {}
    if "bytes" in problem.caps:
        held = [replace(each, loose={}) for each in standings]
        caps = {"bytes": problem.caps["bytes"] - bytes_after(problem, held, ())}
        origins = tuple(replace(o, bytes=max(o.bytes, o.kept_bytes)) for o in origins)
    floor = _floor(problem, standings)
    return replace(problem, sites=tuple(living), origins=origins, caps=caps, accuracy=floor)


def _floor(problem: Problem, standings: Iterable[Standing]) -> float:
    """The least accuracy of what is loose with which all shards together reach the plan's floor.

    It is never more than it has where it lies: what misses the floor by a hair may move, but gets no worse.
    """
    if problem.accuracy <= 0:
        return 0.0
    rows = {origin.site: origin.rows for origin in problem.origins}
    over = loose = right = 0.0
    for each in standings:
        accuracy = {variant.name: variant.accuracy for variant in each.site.variants}
        over += sum(n * rows[o] * (accuracy[v] - problem.accuracy) for (o, v), n in each.kept.items())
        loose += sum(n * rows[o] for (o, _), n in each.loose.items())
        right += sum(n * rows[o] * accuracy.get(v, 1.0) for (o, v), n in each.loose.items())
    return max(0.0, min(problem.accuracy - over / loose, right / loose))


def _as_it_stands(standing: Standing) -> PlaceSite:
    site, cold = standing.site, 0.0 if standing.warm else 1.0
    variants = tuple(replace(v, startup_seconds=cold * v.startup_seconds) for v in site.variants)
    return replace(site, variants=variants, busy_seconds=standing.busy, dispatch_seconds=cold * site.dispatch_seconds)


def moves(standings: Iterable[Standing], solution: Solution) -> list[Move]:
    """From where shards wait to where they should; those that are there already stay."""
    wanted: dict[str, Queue] = defaultdict(dict)
    for (o, i, v), n in solution.counts.items():
        wanted[o][i, v] = n
    loose: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for each in standings:
        for (o, v), n in each.loose.items():
            loose[o].append((each.site.name, v, n))
    found: list[Move] = []
    for o, parts in loose.items():
        places = dict(wanted[o])
        over = []
        for name, v, n in parts:
            kept = min(n, places.get((name, v), 0))
            places[name, v] = places.get((name, v), 0) - kept
            over.append((name, v, n - kept))
        free = [(place_, n) for place_, n in places.items() if n > 0]
        for name, v, n in over:
            while n > 0:
                (to, variant), room = free.pop()
                step = min(n, room)
                found.append((name, o, v, to, variant, step))
                n -= step
                if room > step:
                    free.append(((to, variant), room - step))
    return found


def may_copy(problem: Problem) -> bool:
    """Whether a shard may be answered twice: that crosses links and costs money, so only where nothing but the makespan counts."""
    return problem.objective == "makespan" and not problem.caps


def duplicates(
    problem: Problem, standings: Sequence[Standing], remaining: Mapping[str, float], margin: float = MARGIN
) -> list[Move]:
    """What an idle site should answer as well, because the slowest one has begun it and will not end soon.

    Near the end only: as long as anything is loose, it is better moved. But where what is begun takes so much longer that moving
    the rest is not worth it (`HANGS`), it is why nothing moves. Only where copies may be (`may_copy`), and where the plan has a
    floor of accuracy only by a site that is no less accurate.

    Args:
        problem: as for `decide`.
        standings: likewise.
        remaining: by site, seconds until it has answered all that it has.
        margin: share of the slowest's seconds that it has to gain.
    """
    if not may_copy(problem):
        return []

    origins = {origin.site: origin for origin in problem.origins}

    def left(each: Standing) -> float:
        """Seconds until it has answered what it has, or what it has begun if that hangs; 0 where the loose are better moved."""
        if not each.loose:
            return remaining.get(each.site.name, 0.0)
        loose = sum(n * shard_seconds(each.site, origins[o], v) for (o, v), n in each.loose.items())
        return each.busy if loose < HANGS * margin * each.busy else 0.0

    idle = [s for s in standings if s.alive and not s.busy and not s.loose and s.site.variants]
    slow = max((s for s in standings if s.alive and s.begun), key=left, default=None)
    if slow is not None and problem.accuracy > 0:
        idle = [s for s in idle if s.site.variants[0].accuracy >= slow.site.variants[0].accuracy]
    if not idle or slow is None:
        return []
    up = {standing.site.name: standing.site.up for standing in standings}

    def seconds(other: Standing) -> float:
        site, variant = other.site, other.site.variants[0].name
        work = sum(n * shard_seconds(site, origins[o], variant) for (o, _), n in slow.begun.items())
        sent = sum(n * origins[o].bytes for (o, _), n in slow.begun.items() if o != site.name)
        brought = sum(
            n * origins[o].kept_bytes / up[o] for (o, _), n in slow.begun.items() if o in up and o != site.name
        )
        return start_seconds(site) + brought + max(work, sent / site.down)

    best = min(idle, key=seconds)
    if seconds(best) >= (1 - margin) * left(slow):
        return []
    name, variant = best.site.name, best.site.variants[0].name
    return [(slow.site.name, o, v, name, variant, n) for (o, v), n in slow.begun.items()]
