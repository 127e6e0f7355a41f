"""The programme as a run uses it: every site answers with one variant, and shards stay where they were if that is as good."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.placement import RULES
from infra.placement._arrays import Arrays, evaluate
from infra.placement.programme import as_arrays, put
from infra.placement.programme import place as place_rest
from infra.replanning import Standing, remainder, shard_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.placement import Objective, Problem, Solution

NEARLY = 0.01  # share of the objective that it may cost to leave shards where they were


def solve(problem: Problem, rule: str = "programme", had: Mapping[tuple[str, str], int] | None = None) -> Solution:
    """The placement with at most one variant a site; the bound is over all placements, those with several included.

    Where the programme lets a site answer with several, it keeps the one that answers most shards there, and the rest
    is solved again: a site that loads two models to save a little is not worth two thresholds and two sets of results.

    Args:
        problem: with all variants that sites may answer with.
        rule: of placement, by its name.
        had: by origin and site: how many of the shards that are placed were there. They stay, and only the others are
            placed, if that is nearly as good: many plans often are, and the best may move everything for nothing.

    Raises:
        PlanError: no placement satisfies the constraints.
        UnknownName: there is no such rule.
    """
    place = RULES.get(rule).place
    found = place(problem)
    bound = found.lower_bound
    while kept := _most_used(problem, found):
        try:
            found = place(_narrowed(problem, kept))
        except PlanError:  # under a floor of accuracy what answers most may not do alone
            kept = {
                site.name: max(site.variants, key=lambda v: v.accuracy).name
                for site in problem.sites
                if site.name in kept
            }
            found = place(_narrowed(problem, kept))
        problem = _narrowed(problem, kept)
    if had:
        own = {site.name: site.variants[0].name for site in problem.sites if site.variants} | variants_of(found)
        found = _stay(_narrowed(problem, own), found, had)
    value = _value(found, problem.objective)
    gap = max(0.0, value / bound - 1) if bound > 0 else (0.0 if value <= 1e-12 else math.inf)
    return dataclasses.replace(found, lower_bound=min(bound, value), gap=gap)


def _value(solution: Solution, objective: Objective) -> float:
    return {"makespan": solution.seconds, "bytes": solution.bytes, "money": solution.money}[objective]


def _stay(problem: Problem, found: Solution, had: Mapping[tuple[str, str], int]) -> Solution:
    """What was found, or in its place a plan that moves less.

    First one that moves nothing but what is new or has lost its site; then one that beside that moves what would keep a
    site or a link for longer than the one that was found takes.
    """
    for stays in (dict(had), _relieved(problem, found, had)):
        near = _around(problem, found, stays)
        good = near and _value(near, problem.objective) <= (1 + NEARLY) * _value(found, problem.objective)
        if near and good and moved(near, had) < moved(found, had):
            return near
    return found


def _relieved(problem: Problem, found: Solution, had: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """What was at each site, less what keeps a site or its link for longer than the first part of what was found: others' shards first."""
    sites, origins = ({each.name: each for each in problem.sites}, {each.site: each for each in problem.origins})
    most = max(found.site_seconds.values(), default=0.0)
    stays = {(o, i): n for (o, i), n in had.items() if o in origins and i in sites and sites[i].variants}
    pairs = sorted(stays, key=lambda pair: (pair[0] == pair[1], -stays[pair], pair))
    each: dict[tuple[str, str], dict[tuple[str, str], float]] = {
        pair: {} for pair in pairs
    }  # seconds of a shard, by row
    taken: dict[tuple[str, str], float] = defaultdict(float)
    for o, i in pairs:
        site, origin = sites[i], origins[o]
        rows = {("work", i): shard_seconds(site, origin, site.variants[0].name)}
        if not site.cloud:
            answers = problem.result_bytes + origin.rows * problem.result_row_bytes
            rows["up", i] = (answers + origin.rows * site.variants[0].escalation * problem.record_bytes) / site.up
        if o != i:
            rows["down", i] = origin.bytes / site.down
            if o in sites and not sites[o].cloud:
                rows["up", o] = origin.bytes / sites[o].up
        each[o, i] = rows
        for row, seconds in rows.items():
            taken[row] += stays[o, i] * seconds
    for i in {i for _, i in pairs}:
        taken["work", i] += sites[i].dispatch_seconds + sites[i].variants[0].startup_seconds
    for pair in pairs:
        if origins[pair[0]].resident:
            continue
        need = max((math.ceil((taken[row] - most) / s - 1e-9) for row, s in each[pair].items() if s > 0), default=0)
        step = min(stays[pair], max(0, need))
        stays[pair] -= step
        for row, seconds in each[pair].items():
            taken[row] -= step * seconds
    return stays


def _around(problem: Problem, found: Solution, stays: Mapping[tuple[str, str], int]) -> Solution | None:
    """The plan in which these stay, by origin and site, and all others are placed around them; None if there is none."""
    variants = {site.name: site.variants[0].name for site in problem.sites if site.variants}
    origins = {origin.site: origin for origin in problem.origins}
    counts = {(o, o, variants[o]): each.shards for o, each in origins.items() if each.resident and o in variants}
    for (o, i), n in stays.items():
        if n and i in variants and o in origins and not origins[o].resident:
            counts[o, i, variants[i]] = n
    left = {o: origin.shards for o, origin in origins.items()}
    for (o, _, _), n in counts.items():
        left[o] -= n
    kept: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for (o, i, v), n in counts.items():
        kept[i][o, v] = n
    a = Arrays(problem)
    try:
        parts = evaluate(a, *as_arrays(a, counts)).parts
        standings = [
            Standing(
                site=dataclasses.replace(site, up_busy_seconds=float(up), down_busy_seconds=float(down)),
                warm=site.name in kept, busy=float(work), kept=kept.get(site.name, {}),
            )
            for site, work, up, down in zip(problem.sites, parts["compute"], parts["uplink"], parts["downlink"], strict=True)
            if site.name in variants
        ]  # fmt: skip
        standings += [Standing(site=problem.sites[0], alive=False, loose={(o, ""): n for o, n in left.items() if n})]
        rest = remainder(problem, standings)
        for key, n in place_rest(rest).counts.items() if rest else ():
            counts[key] = counts.get(key, 0) + n
        return put(problem, counts, found.lower_bound)
    except PlanError:
        return None


def moved(solution: Solution, had: Mapping[tuple[str, str], int]) -> int:
    """Shards that have to go where they were not, by their counts at each origin and site."""
    return sum(max(0, n - had.get((o, i), 0)) for (o, i, _), n in solution.counts.items())


def _narrowed(problem: Problem, kept: dict[str, str]) -> Problem:
    """The problem in which these sites may only answer with these variants."""
    sites = tuple(
        dataclasses.replace(site, variants=tuple(v for v in site.variants if v.name == kept.get(site.name, v.name)))
        for site in problem.sites
    )
    return dataclasses.replace(problem, sites=sites)


def variants_of(solution: Solution) -> dict[str, str]:
    """By site that answers shards: the variant."""
    return {site: variant for _, site, variant in solution.counts}


def _most_used(problem: Problem, solution: Solution) -> dict[str, str]:
    """By site that would answer with several variants: the one that answers most shards there, the first of equal ones."""
    counts: dict[str, dict[str, int]] = {}
    for (_, site, variant), n in solution.counts.items():
        mine = counts.setdefault(site, {})
        mine[variant] = mine.get(variant, 0) + n
    order = {site.name: [variant.name for variant in site.variants] for site in problem.sites}
    return {
        site: min((-n, order[site].index(name), name) for name, n in mine.items())[2]
        for site, mine in counts.items()
        if len(mine) > 1
    }
