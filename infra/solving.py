"""The programme as a run uses it: every site answers with one variant, the one that serves the plan best."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.placement import RULES

if TYPE_CHECKING:
    from infra.placement import Problem, Solution


def solve(problem: Problem, rule: str = "programme") -> Solution:
    """The placement with at most one variant a site; the bound is over all placements, those with several included.

    Where the programme lets a site answer with several, it keeps the one that answers most shards there, and the rest
    is solved again: a site that loads two models to save a little is not worth two thresholds and two sets of results.

    Args:
        problem: with all variants that sites may answer with.
        rule: of placement, by its name.

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
    value = {"makespan": found.seconds, "bytes": found.bytes, "money": found.money}[problem.objective]
    gap = max(0.0, value / bound - 1) if bound > 0 else (0.0 if value <= 1e-12 else math.inf)
    return dataclasses.replace(found, lower_bound=min(bound, value), gap=gap)


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
