"""A plan as a person reads it, site by site: what each answers, what that takes, what binds it and how much slack it has."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infra.demands import in_words, written
from infra.explain import ROWS, binding
from infra.placement._arrays import Arrays, evaluate
from infra.placement.programme import as_arrays

if TYPE_CHECKING:
    from data_catalog.nouns import Plan
    from infra.placement import Problem, Solution


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine:
    """What a plan says of one site."""

    site: str
    shards: int  # to be answered there
    guests: int  # of them, born elsewhere
    reused: int  # that the ledger holds
    rows: int
    seconds: float  # until its last shard is answered, the handing over included
    bytes: float  # over its link, both ways
    variants: tuple[str, ...]  # that answer there: names where they are known, else digests
    codecs: tuple[str, ...]  # of its shards; empty where that is not known
    binds: str  # what its seconds come from; empty: it does nothing
    slack: float | None  # seconds that it could take longer without the run ending later
    why: str


def lines(problem: Problem, solution: Solution, plan: Plan | None = None) -> list[SiteLine]:
    """A line for every site.

    Args:
        problem: that was solved.
        solution: of it.
        plan: made of them; None: shards that are there, codecs and names of variants are not known.
    """
    a = Arrays(problem)
    origin, option, count = as_arrays(a, solution.counts)
    costs = evaluate(a, origin, option, count)
    site, home = a.site[option], a.home[origin]
    sites = len(a.names)
    shards, guests = (np.bincount(site, each, sites) for each in (count, count * (site != home)))
    rows = np.bincount(site, count * a.rows[origin], sites)
    sent = (costs.parts["uplink"] - a.up_busy) * a.up + (costs.parts["downlink"] - a.down_busy) * a.down
    bound = {each.site: each for each in binding(problem, solution)}
    reused = Counter(p.site for p in plan.placements if p.reused) if plan else Counter[str]()
    codecs, variants = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for p in plan.placements if plan else ():
        codecs[p.site].add(p.codec)
    for _, s, v in solution.counts:
        variants[s].add(v)
    found = []
    for i, name in enumerate(a.names):
        row = bound.get(name)
        used = sorted(variants[name])
        if not used and plan:
            used = [plan.cards[name].digest]
        found.append(
            SiteLine(
                site=name,
                shards=int(shards[i]),
                guests=int(guests[i]),
                reused=reused[name],
                rows=round(float(rows[i])),
                seconds=row.seconds if row else 0.0,
                bytes=float(sent[i]),
                variants=tuple(variant_name(plan, digest) for digest in used),
                codecs=tuple(sorted(codecs[name])),
                binds=ROWS[row.row] if row else "",
                slack=row.slack if row else None,
                why=solution.reasons.get(name, ""),
            )
        )
    return found


def totals(problem: Problem, solution: Solution) -> list[str]:
    """What the plan costs by every objective, how near the best it is, how even, and what its demands leave."""
    near = "how near the best it is, is not known"
    if math.isfinite(solution.gap):
        near = (
            f"no plan is below {written(problem.objective, solution.lower_bound)}: this one is {solution.gap:.2%} above"
        )
    return [
        f"{in_words(problem.objective, problem.caps, problem.accuracy)}: {written('makespan', solution.seconds)}, {written('bytes', solution.bytes)} over the"
        f" links, {written('money', solution.money)}, an accuracy of {solution.accuracy:.2%}",
        f"{near}; balance {solution.balance:.2f} (Jain's index)",
    ]


def variant_name(plan: Plan | None, digest: str) -> str:
    """The name of a variant of the plan, or the beginning of its digest."""
    cards = [*plan.cards.values(), *plan.variants.values()] if plan else []
    return next((card.name for card in cards if card.digest == digest), digest[:12])
