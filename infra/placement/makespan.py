"""Least makespan: a small mixed-integer programme over counts, solved by HiGHS.

Variables: n[o, i] shards of origin o at site i, u[i] whether i is used, e whether an edge is, T1 when the
last site has answered its shards, T2 how much longer the cloud needs for what the edges escalate. Minimise
T1 + T2, and among equal plans the one that moves the fewest bytes. `docs/planner.md` writes the rows out.

Rounding: HiGHS gives n as reals; the largest remainders of each origin are rounded up.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from data_catalog.errors import PlanError
from infra.placement import PlaceOrigin, PlaceSite, Problem, Solution

MOVED_BYTE_SECONDS = 1e-12  # breaks ties: a plan that moves a gigabyte for nothing costs a millisecond more


def shard_seconds(origin: PlaceOrigin, site: PlaceSite) -> float:
    """Seconds of one thread of `site` for one shard of `origin`: its rows, or the store's latency if longer."""
    return max(origin.rows * site.seconds_per_row, site.latency_seconds)


def place(problem: Problem) -> Solution:
    """Solve the programme.

    Raises:
        PlanError: there is no site, no cloud to escalate to, or HiGHS finds no plan.
    """
    sites, origins = problem.sites, problem.origins
    if not sites:
        raise PlanError("no site can answer shards; name one with --site")
    clouds = [site for site in sites if site.cloud]
    if problem.escalation > 0 and not clouds:
        raise PlanError("the accuracy bound needs a cloud site to escalate to; name one with --site, or raise --bound")
    pairs = [(o, i) for o in range(len(origins)) for i in range(len(sites)) if _allowed(origins[o], sites[i])]
    if len({o for o, _ in pairs}) < len(origins):
        stuck = next(origin.site for o, origin in enumerate(origins) if all(p != o for p, _ in pairs))
        raise PlanError(
            f"the shards of {stuck} must stay there, but {stuck} is not among the sites; add it with --site"
        )
    counts = _round(problem, pairs, _solve(problem, pairs)) if pairs else {}
    total, by_site = predict(problem, counts)
    return Solution(counts=counts, seconds=total, site_seconds=by_site, reasons=_reasons(problem, counts, by_site))


def _allowed(origin: PlaceOrigin, site: PlaceSite) -> bool:
    return not origin.resident or origin.site == site.name


def _solve(problem: Problem, pairs: list[tuple[int, int]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    sites, origins = problem.sites, problem.origins
    width = len(pairs) + len(sites) + 3
    edges, first, second = width - 3, width - 2, width - 1  # e, T1, T2
    rows: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    low: list[float] = []
    high: list[float] = []

    def add(coefficients: dict[int, float], least: float, most: float) -> None:
        row = np.zeros(width)
        for column, value in coefficients.items():
            row[column] += value
        rows.append(row)
        low.append(least)
        high.append(most)

    def at(site: int) -> list[tuple[int, int]]:
        return [(k, o) for k, (o, i) in enumerate(pairs) if i == site]

    for o, origin in enumerate(origins):  # every shard is placed
        add({k: 1 for k, (p, _) in enumerate(pairs) if p == o}, origin.shards, origin.shards)
    everything = sum(origin.shards for origin in origins)
    hosts: dict[str, list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        used = len(pairs) + i
        hosts[site.host].append(i)
        add({used: float(everything)} | {k: -1.0 for k, _ in at(i)}, 0, np.inf)  # a site with shards is used
        work = {k: shard_seconds(origins[o], site) / site.threads for k, o in at(i)}
        add({first: -1, used: site.startup_seconds + site.dispatch_seconds} | work, -np.inf, 0)
        add(
            {first: -1} | {k: origins[o].bytes / site.down for k, o in at(i) if origins[o].site != site.name},
            -np.inf,
            0,
        )
        if not site.cloud:
            add({edges: 1.0, used: -1.0}, 0, np.inf)  # one edge used is enough to have something to escalate
            sent = {k: problem.escalation * origins[o].rows * problem.record_bytes / site.up for k, o in at(i)}
            away = {
                k: origins[o].bytes / site.up
                for k, (o, j) in enumerate(pairs) if origins[o].site == site.name and sites[j].name != site.name
            }  # fmt: skip
            add({first: -1} | sent | away, -np.inf, 0)
    for members in hosts.values():  # sites of one machine share its cores
        cores = sites[members[0]].host_cores
        work = {k: shard_seconds(origins[o], sites[i]) for i in members for k, o in at(i)}
        for own in members:
            startup = {len(pairs) + i: sites[i].startup_seconds for i in members}
            startup[len(pairs) + own] += cores * sites[own].dispatch_seconds
            add({first: -cores} | startup | work, -np.inf, 0)
    if problem.escalation > 0:
        c, cloud = next((i, site) for i, site in enumerate(sites) if site.cloud)
        again = {
            k: problem.escalation * origins[o].rows * cloud.seconds_per_row / cloud.threads
            for k, (o, i) in enumerate(pairs) if not sites[i].cloud
        }  # fmt: skip
        fixed = cloud.startup_seconds + cloud.dispatch_seconds
        add({second: -1, edges: fixed, len(pairs) + c: -cloud.startup_seconds} | again, -np.inf, 0)
    cost = np.zeros(width)
    cost[[first, second]] = 1
    for k, (o, i) in enumerate(pairs):
        if origins[o].site != sites[i].name:
            cost[k] = MOVED_BYTE_SECONDS * origins[o].bytes + 1e-9
    binary = np.zeros(width)
    binary[len(pairs) : len(pairs) + len(sites)] = 1
    top = np.full(width, np.inf)
    top[binary == 1] = top[edges] = 1
    found = milp(
        cost,
        integrality=binary,
        bounds=Bounds(np.zeros(width), top),
        constraints=LinearConstraint(np.array(rows), low, high),
    )
    if found.x is None:
        raise PlanError(f"no placement satisfies all constraints (HiGHS: {found.message})")
    return np.asarray(found.x[: len(pairs)])


def _round(
    problem: Problem, pairs: list[tuple[int, int]], real: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> dict[tuple[str, str], int]:
    """Whole shards by largest remainder, origin by origin."""
    counts: dict[tuple[str, str], int] = {}
    for o, origin in enumerate(problem.origins):
        mine = [(k, i) for k, (p, i) in enumerate(pairs) if p == o]
        floors = {k: int(np.floor(real[k] + 1e-6)) for k, _ in mine}
        missing = origin.shards - sum(floors.values())
        for k, _ in sorted(mine, key=lambda pair: (floors[pair[0]] - real[pair[0]], pair[1]))[: max(0, missing)]:
            floors[k] += 1
        counts |= {(origin.site, problem.sites[i].name): floors[k] for k, i in mine if floors[k] > 0}
    return counts


def predict(problem: Problem, counts: dict[tuple[str, str], int]) -> tuple[float, dict[str, float]]:
    """What a placement should cost: seconds in all, and each site's own (before the cloud's second part)."""
    origins = {origin.site: origin for origin in problem.origins}
    by_site: dict[str, float] = {}
    host_work: dict[str, float] = defaultdict(float)
    edge_rows = 0.0
    link = {site.name: _link_seconds(problem, counts, site) for site in problem.sites}
    for site in problem.sites:
        mine = {o: n for (o, i), n in counts.items() if i == site.name}
        if not mine:
            continue
        work = sum(shard_seconds(origins[o], site) * n for o, n in mine.items())
        host_work[site.host] += site.startup_seconds + work
        by_site[site.name] = site.dispatch_seconds + site.startup_seconds + work / site.threads
        if not site.cloud:
            edge_rows += sum(origins[o].rows * n for o, n in mine.items())
    for site in problem.sites:
        if site.name in by_site:
            shared = site.dispatch_seconds + host_work[site.host] / site.host_cores
            by_site[site.name] = max(by_site[site.name], shared, link[site.name])
    total = max([*by_site.values(), *link.values()], default=0.0)
    cloud = next((site for site in problem.sites if site.cloud), None)
    if cloud and problem.escalation > 0 and edge_rows:
        total += cloud.dispatch_seconds + edge_rows * problem.escalation * cloud.seconds_per_row / cloud.threads
        total += 0 if cloud.name in by_site else cloud.startup_seconds
    return total, by_site


def _link_seconds(problem: Problem, counts: dict[tuple[str, str], int], site: PlaceSite) -> float:
    """Seconds for which the busier direction of a site's link is busy; transfers overlap with the work."""
    origins = {origin.site: origin for origin in problem.origins}
    guests = sum(origins[o].bytes * n for (o, i), n in counts.items() if i == site.name != o)
    if site.cloud:
        return guests / site.down
    away = sum(origins[o].bytes * n for (o, i), n in counts.items() if o == site.name != i)
    rows = sum(origins[o].rows * n for (o, i), n in counts.items() if i == site.name)
    return max(guests / site.down, (away + problem.escalation * rows * problem.record_bytes) / site.up)


def _reasons(problem: Problem, counts: dict[tuple[str, str], int], by_site: dict[str, float]) -> dict[str, str]:
    reasons = {}
    slowest = max(by_site, key=lambda name: by_site[name], default="")
    for site in problem.sites:
        own = sum(n for (o, i), n in counts.items() if i == site.name == o)
        guests = sum(n for (o, i), n in counts.items() if i == site.name != o)
        left = sum(n for (o, i), n in counts.items() if o == site.name != i)
        if site.name not in by_site:
            what = "answers no shard of its own: using it would not end the run sooner"
            if site.cloud and problem.escalation > 0:
                what += f"; answers the {problem.escalation:.1%} of rows that the edges are unsure of"
        elif not guests and not left:
            what = f"keeps its {own} shards: moving one would not end the run sooner"
        else:
            what = (
                f"answers {own} of its own shards and {guests} of others, gives {left} away: this ends the run soonest"
            )
        binds = "; it is the one all wait for" if site.name == slowest and len(by_site) > 1 else ""
        reasons[site.name] = what + binds
    return reasons
