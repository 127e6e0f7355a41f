"""The programme of `docs/planner.md`: least makespan, bytes or money, with the distance to the best that can be.

Small problems are solved in whole numbers. Others by a linear relaxation, which also gives the lower bound: largest
remainders, then local search. The relaxation is the tighter the better the seconds of the first part are known, so
these are branched on. Above some size they are given to the relaxation and searched for: the value is convex
in them, and the tangents bound it from below.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import numpy as np

from data_catalog.errors import PlanError
from infra.balance import jain
from infra.demands import written
from infra.placement import OBJECTIVES, Objective, Problem, Solution
from infra.placement import _exact as exact
from infra.placement._arrays import Arrays, evaluate
from infra.placement._relaxation import Columns, Relaxed, relax
from infra.placement._repair import SLACK, Placed, better, judge, repair
from infra.placement._rounding import merged, round_off

SMALL = 40  # pairs of origin and option up to which whole numbers are solved for
LARGE = 6_000  # sites from which on seconds are given and searched for
CLASSES, CLASSES_LARGE = 6, 3
CLOSE = 2e-3  # gap that is not worth another round
TANGENTS = 6
LOOKS = 60_000  # columns times relaxations of a search by intervals
CHOSEN, WORTH_CHOOSING = (
    100,
    5e-3,
)  # options up to which, and gap from which on, it is chosen in whole numbers which are used
NEARLY = 1.3  # times the best value, above which a rounded relaxation is not worth a local search
NEAR = 2e-4  # the share by which seconds to try are longer than the least that they may be


def place(problem: Problem) -> Solution:
    """Solve the programme.

    Raises:
        PlanError: there is no site, no cloud to escalate to, or no plan keeps residency, disk, floor and caps.
    """
    a = Arrays(problem)
    _refuse(a)
    if not len(a.shards):
        return solution(a, judge(a, *np.zeros((3, 0), np.int64)), 0.0)
    placed, bound = _solve(a)
    if placed is None or placed.broken > 0:
        raise PlanError(_why_not(a))
    return solution(a, placed, bound)


def predict(problem: Problem, counts: dict[tuple[str, str, str], int]) -> tuple[float, dict[str, float]]:
    """What a placement should cost: seconds in all, and those of each site that is used, before the second part."""
    a = Arrays(problem)
    costs = evaluate(a, *as_arrays(a, counts))
    return costs.seconds, {a.names[i]: float(costs.site_seconds[i]) for i in np.flatnonzero(costs.used)}


def costs_of(problem: Problem, counts: dict[tuple[str, str, str], int]) -> dict[Objective, float]:
    """What a placement costs by every objective."""
    a = Arrays(problem)
    costs = evaluate(a, *as_arrays(a, counts))
    return {name: costs.of(name) for name in OBJECTIVES}


def put(problem: Problem, counts: dict[tuple[str, str, str], int], bound: float) -> Solution | None:
    """A placement of all shards as a solution; None if it breaks a row.

    Args:
        problem: that it is one of; residency is not looked at.
        counts: shards by origin, site and variant.
        bound: below which no placement can be.

    Raises:
        PlanError: a site, or a variant there, cannot be used.
    """
    a = Arrays(problem)
    placed = judge(a, *as_arrays(a, counts))
    return None if placed.broken > 0 else solution(a, placed, bound)


def stated(problem: Problem, counts: dict[tuple[str, str, str], int], bound: float) -> Solution:
    """The same of a placement that may break rows, or be of a part of the shards; a bound of 0: none is known."""
    a = Arrays(problem)
    return solution(a, judge(a, *as_arrays(a, counts)), bound)


def as_arrays(a: Arrays, counts: dict[tuple[str, str, str], int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origins, options and shards of the counts of a solution.

    Raises:
        PlanError: they name an origin, a site or a variant that the problem has not.
    """
    origins = {name: o for o, name in enumerate(a.origin_names)}
    options = {
        (a.names[i], a.problem.sites[i].variants[v].name): m
        for m, (i, v) in enumerate(zip(a.site, a.variant, strict=True))
    }
    try:
        found = [(origins[o], options[i, v], n) for (o, i, v), n in counts.items()]
    except KeyError as error:
        raise PlanError(f"the placement names {error.args[0]!r}, which the problem has not") from error
    o, m, n = np.array(found, np.int64).reshape(-1, 3).T
    return o, m, n


def solution(a: Arrays, placed: Placed, bound: float) -> Solution:
    """The placement in words."""
    costs, names = placed.costs, a.names
    entries = zip(placed.origin.tolist(), placed.option.tolist(), placed.count.tolist(), strict=True)
    variants = [[variant.name for variant in site.variants] for site in a.problem.sites]
    site, variant = a.site.tolist(), a.variant.tolist()
    able = np.isin(np.arange(len(names)), a.site)
    return Solution(
        counts={(a.origin_names[o], names[site[m]], variants[site[m]][variant[m]]): n for o, m, n in entries},
        seconds=costs.seconds,
        site_seconds={names[i]: float(costs.site_seconds[i]) for i in np.flatnonzero(costs.used)},
        bytes=costs.bytes,
        money=costs.money,
        accuracy=costs.accuracy,
        lower_bound=min(bound, placed.value),
        gap=max(0.0, placed.value / bound - 1) if bound > 0 else (0.0 if placed.value <= 1e-12 else math.inf),
        balance=jain(costs.site_seconds[able]),
        reasons=_reasons(a, placed),
    )


def _refuse(a: Arrays) -> None:
    """Raise what needs no solver to be seen."""
    if not a.names:
        raise PlanError("no site can answer shards; name one with --site")
    if not len(a.shards):
        return
    if not len(a.site):
        raise PlanError("no site has the memory and the disk for any of its variants")
    if a.escalation.any() and a.judge < 0:
        raise PlanError("the accuracy bound needs a cloud site to escalate to; name one with --site, or raise --bound")
    able = np.zeros(len(a.names) + 1, bool)
    able[a.site] = True  # the last one is for origins that are not among the sites
    for o in np.flatnonzero(a.resident & ~able[a.home])[:1]:
        name = a.origin_names[o]
        if a.home[o] < 0:
            raise PlanError(
                f"the shards of {name} must stay there, but {name} is not among the sites; add it with --site"
            )
        raise PlanError(f"the shards of {name} must stay there, but none of its variants fits its memory and disk")


def _solve(a: Arrays) -> tuple[Placed | None, float]:
    best, bound = _start(a), 0.0
    if len(a.shards) * len(a.site) <= 4 * SMALL and len(exact.pairs(a)[0]) <= SMALL:
        found = exact.solve(a, _scale(a, best))
        if found is not None:
            placed = judge(a, *merged(*exact.pairs(a), found[0]))
            return repair(a, placed), found[1]
    if len(a.names) > LARGE:
        cols = Columns(a, CLASSES_LARGE)
        found_real = _by_tangents(cols, _horizon(a, best), _scale(a, best))
        if found_real is None:
            return best, bound
        placed = repair(a, judge(a, *round_off(cols, found_real[0])))
        return placed if best is None or better(placed, best) else best, found_real[1]
    return _by_intervals(a, Columns(a, CLASSES), best)


def _by_intervals(a: Arrays, cols: Columns, best: Placed | None) -> tuple[Placed | None, float]:
    """Branch on the seconds of the first part: the shorter an interval, the tighter its relaxation; least bound first."""
    scale = _scale(a, best)
    waiting: list[tuple[float, int, float, float, float | None, Relaxed]] = []
    done = math.inf  # the least bound of intervals that are not split any more
    left = int(np.clip(LOOKS // max(1, cols.counts), 4, 30))

    def look(low: float, high: float, again: float | None) -> None:
        nonlocal left
        left -= 1
        real = relax(cols, low, high, scale, again=again)
        if real is not None:
            heapq.heappush(waiting, (real.value, left, low, high, again, real))

    for again in _cases(cols):
        look(float(a.busy.max(initial=0)), _horizon(a, best, again), again)
    while waiting:
        value, _, low, high, again, real = heapq.heappop(waiting)
        if best is not None and best.broken == 0 and best.value <= min(value, done) * (1 + CLOSE):
            done = min(done, value)
            break
        placed = judge(a, *round_off(cols, real))
        if best is None or placed.broken or placed.value < NEARLY * best.value:
            placed = repair(a, placed)
            best = placed if best is None or better(placed, best) else best
        high = min(high, _horizon(a, best, again))
        middle = min(max(real.first * (1 + CLOSE), low + (high - low) / 16), high - (high - low) / 16)
        if left < 2 or high <= low * (1 + CLOSE) or best.value <= min(value, done) * (1 + CLOSE):
            done = min(done, value)
            continue
        look(low, middle, again)
        look(middle, high, again)
    bound = min([done, *(each[0] for each in waiting)])
    if best is not None and len(a.site) <= CHOSEN and best.broken == 0 and best.value > bound * (1 + WORTH_CHOOSING):
        best, bound = _by_choice(a, cols, best, bound)
    return best, (best.value if best is not None else 0.0) if math.isinf(bound) else bound


def _by_choice(a: Arrays, cols: Columns, best: Placed, bound: float) -> tuple[Placed, float]:
    """Where starts are a large part of the time, a choice of the options that are used, solved in whole numbers."""
    values = []
    for again in _cases(cols):
        real = relax(cols, float(a.busy.max(initial=0)), _horizon(a, best, again), best.value, again=again, whole=True)
        if real is None:  # nothing in this case is better than the best
            continue
        values.append(real.value)
        placed = repair(a, judge(a, *round_off(cols, real)))
        best = placed if better(placed, best) else best
    return best, max(bound, min([best.value, *values]))


def _start(a: Arrays) -> Placed | None:
    """A plan to begin with: under a cap on the makespan the soonest one, if that keeps all else, or all at home."""
    p = a.problem
    if p.objective != "makespan" and "makespan" in p.caps:
        rivals: dict[Objective, float] = {name: cap for name, cap in p.caps.items() if name != "makespan"}
        soonest, _ = _solve(Arrays(replace(p, objective="makespan", caps=rivals)))
        if soonest is not None:
            placed = judge(a, soonest.origin, soonest.option, soonest.count)
            if placed.broken == 0:
                return repair(a, placed)
    return _at_home(a)


def _at_home(a: Arrays) -> Placed | None:
    """Every shard at its origin, with the quickest variant there; others, all at the quickest site."""
    seconds = a.speed / a.threads[a.site]
    order = np.lexsort((np.arange(len(a.site)), seconds))
    first = np.full(len(a.names) + 1, order[0])
    first[a.site[order[::-1]]] = order[::-1]
    placed = judge(a, np.arange(len(a.shards)), first[a.home], a.shards)
    return placed if placed.broken == 0 else None


def _horizon(a: Arrays, best: Placed | None, again: float | None = None) -> float:
    """Seconds that the first part of the best plan does not exceed, if the second takes at least `again`."""
    most = min(a.longest, a.problem.caps.get("makespan", math.inf))
    if best is not None and best.broken == 0 and a.problem.objective == "makespan":
        most = min(most, best.value - (again or 0.0))
    return max(most, float(a.busy.max(initial=0))) * (1 + 1e-9)


def _scale(a: Arrays, best: Placed | None) -> float:
    """About how large the objective is, so that the solver's tolerances mean something."""
    if best is not None and best.value > 0:
        return best.value
    if a.problem.objective == "makespan":
        return a.longest
    options = np.arange(len(a.site))
    shard = a.shard_money if a.problem.objective == "money" else a.moved_bytes
    dearest = max(float(shard(np.full(len(options), o), options).max()) for o in range(min(len(a.shards), 100)))
    return max(dearest * float(a.shards.sum()), 1e-9)


def _cases(cols: Columns) -> list[float | None]:
    """The cases of a search, whose bound is the least of them: seconds before the cloud's second part begins, where there is one; None for none, where that can be."""
    a = cols.a
    if not a.escalation.any():
        return [0.0]
    reachable = bool((cols.option == a.judge).any())
    begin = float(a.dispatch[a.first_cloud]) + (0.0 if reachable else float(a.startup[a.judge]))
    quiet = np.zeros(len(a.names) + 1, bool)  # sites with an option that escalates nothing
    quiet[a.site[a.escalation == 0]] = True
    return [begin] if not quiet[a.home[a.resident]].all() or not quiet.any() else [begin, None]


def _by_tangents(cols: Columns, horizon: float, scale: float) -> tuple[Relaxed, float] | None:
    """Search for the seconds of the first part: Kelley's cutting planes in one dimension (J. Kelley, 1960).

    With the seconds given, the sites hang together by the pool alone, and HiGHS needs a tenth of the time.
    """
    a = cols.a
    cases = _cases(cols)
    again = cases[0] or 0.0 if len(cases) == 1 else 0.0
    least = max(_least_seconds(a), float(a.busy.max(initial=0)))
    seconds = least * (1 + NEAR)
    left: Relaxed | None = None  # the last one with too few seconds, and the first one with enough:
    right = (seconds, again + seconds, 1.0)  # no value is below its own first part and what the cloud begins with
    best: Relaxed | None = None
    bound = 0.0
    for _ in range(TANGENTS):
        found = relax(cols, 0.0, horizon, scale, again=again, first=seconds)
        if found is None:
            return None
        if best is None or (found.unplaced > 0.5, found.value) < (best.unplaced > 0.5, best.value):
            best = found
        if found.slope < 0:
            left = found
        else:
            right = (found.first, found.value, found.slope)
        if left is None:
            bound = max(bound, found.value + found.slope * (least - found.first))
            break
        # Where the two tangents meet is the least that the value can be.
        seconds = (right[1] - left.value + left.slope * left.first - right[2] * right[0]) / (left.slope - right[2])
        bound = max(bound, left.value + left.slope * (seconds - left.first))
        if best.unplaced < 0.5 and best.value <= bound * (1 + CLOSE):
            break
        seconds *= 1 + NEAR
    return None if best is None else (best, bound)


def _least_seconds(a: Arrays) -> float:
    """Seconds that the first part takes at least, by bisection, each site with its quickest variant.

    Enough are those in which every origin can give away what it cannot answer, and all sites together can take it.
    """
    quick, start, fixed = np.full((3, len(a.names)), np.inf)
    np.minimum.at(quick, a.site, a.speed / a.threads[a.site])
    np.minimum.at(start, a.site, a.startup)
    fixed = a.busy + a.dispatch + np.where(np.isfinite(start), start, 0.0)
    speed = np.where(np.isfinite(quick), quick, 0.0)
    home, there = a.home, a.home >= 0
    born, up = a.shards * a.rows, np.where(there & ~a.cloud[home], a.up[home], np.inf)
    gives = np.where(a.resident, 0.0, a.rows * up / np.maximum(a.bytes, 1e-300))  # rows a second
    density = float((a.bytes / a.rows)[~a.resident].min(initial=np.inf))
    takes = a.down / density if density > 0 else np.full(len(a.names), np.inf)
    own = np.bincount(home[there], born[there], len(a.names))
    low, high = 0.0, a.longest
    for _ in range(60):
        middle = (low + high) / 2
        able = np.where(np.isfinite(quick), np.maximum(0.0, middle - fixed), 0.0)
        rows = np.divide(able, speed, out=np.zeros_like(able), where=speed > 0)
        most = np.where(there, rows[home], 0.0)
        must = np.maximum(0.0, born - most)
        spare = np.minimum(np.maximum(0.0, rows - own), takes * middle)
        enough = (must <= gives * middle * (1 + 1e-12) + 1e-9).all() and must.sum() <= spare.sum() * (1 + 1e-12) + 1e-9
        low, high = (low, middle) if enough else (middle, high)
    return low


def _reasons(a: Arrays, placed: Placed) -> dict[str, str]:
    """A sentence for every site."""
    sites, costs = len(a.names), placed.costs
    site, home = a.site[placed.option], a.home[placed.origin]
    stays = home == site
    own = np.bincount(site[stays], placed.count[stays], sites).astype(int)
    guests = np.bincount(site[~stays], placed.count[~stays], sites).astype(int)
    leaves = ~stays & (home >= 0)
    left = np.bincount(home[leaves], placed.count[leaves], sites).astype(int)
    aim = {"makespan": "end the run sooner", "bytes": "send fewer bytes", "money": "cost less"}[a.problem.objective]
    slowest = int(np.argmax(costs.site_seconds)) if costs.used.sum() > 1 else -1
    escalated = float(placed.count * a.rows[placed.origin] @ a.escalation[placed.option]) / (a.total_rows or 1.0)
    reasons = {}
    for i, name in enumerate(a.names):
        if not costs.used[i]:
            what = f"answers no shard of its own: using it would not {aim}"
            if i == a.first_cloud and escalated > 0:
                what += f"; answers the {escalated:.1%} of rows that the edges are unsure of"
        elif not guests[i] and not left[i]:
            what = f"keeps its {own[i]} shards: moving one would not {aim}"
        else:
            what = f"answers {own[i]} of its own shards and {guests[i]} of others, gives {left[i]} away, to {aim}"
        reasons[name] = what + ("; it is the one all wait for" if i == slowest else "")
    return reasons


def _why_not(a: Arrays) -> str:
    """Which demand cannot be met, and the least that is possible of it."""
    p, most = a.problem, float(a.accuracy.max())
    if most < p.accuracy:
        return f"no variant reaches the accuracy of {p.accuracy:.2%}: the best has {most:.2%}; lower it, or add a cloud"
    for name, cap in p.caps.items():
        least = _least(p, name, {})
        if least > cap * (1 + SLACK):
            return (
                f"no placement keeps the cap of {written(name, cap)}: the least that is possible is"
                f" {written(name, least)}; raise the cap, or change the sites"
            )
    for name, cap in p.caps.items():
        rivals: dict[Objective, float] = {other: each for other, each in p.caps.items() if other != name}
        if rivals and math.isfinite(least := _least(p, name, rivals)):
            kept = " and ".join(written(other, each) for other, each in rivals.items())
            return (
                f"no placement keeps the caps together: within {kept} the least that is possible is"
                f" {written(name, least)}, and the cap is {written(name, cap)}; raise one of them, or change the sites"
            )
    floor = f"an accuracy of {p.accuracy:.2%}" if p.accuracy > 0 else ""
    disks = "the disks of the sites" if np.isfinite(a.disk).any() else ""
    demands = [*filter(None, (floor, disks)), *(f"a cap of {written(name, cap)}" for name, cap in p.caps.items())]
    return f"no placement satisfies {' and '.join(demands) or 'all constraints'}; relax one of them, or add a site"


def _least(problem: Problem, objective: Objective, caps: dict[Objective, float]) -> float:
    """The least found of one objective under these caps; infinite if nothing keeps the rest."""
    placed, _ = _solve(Arrays(replace(problem, objective=objective, caps=caps)))
    return math.inf if placed is None or placed.broken > 0 else placed.value
