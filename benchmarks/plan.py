"""Plan time by size, the distance of plans from the bound and from the best, the simulator, and rendezvous.

Problems are random, by seed: edges of very different speed, links and shards, one cloud for a hundred edges, a fifth of
the edges with shards that may not leave. Plan time is from the problem to the solution. A gap is the makespan above the
lower bound, one shard of the slowest site that answers shards taken off, as a share of the bound. Small instances are compared with
all placements there are. The simulator knows what neither the plan nor the watch does: speeds and links off by log-normal factors of 20 %, and 5 % of the
edges, at least one, die and come back. Its makespans are over the bound for the speeds and links that there really are and no deaths,
which nothing in that world can beat.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import math
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import _results
from benchmarks._results import Target
from cloudedge import planning
from data_catalog.nouns import Placement, Plan, Shard
from infra import explain, rendezvous
from infra.placement._arrays import Arrays
from infra.placement.programme import as_arrays, costs_of, place
from infra.simulator import events, policies, worlds
from infra.solving import moved, solve
from infra.testing.placement_suite import every_placement, holds
from infra.watching.state import USUAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.placement import Problem, Solution

SIZES = ((10, 10_000), (1_000, 1_000_000), (100_000, 100_000_000))  # sites, shards
INSTANCES = int(os.environ.get("INSTANCES", "1000"))
SMALL_INSTANCES = 300
CHANGED = 5  # sites that leave, one after another, and as many that join
LOOKS = {10: 20, 1_000: 20, 100_000: 4}  # in the time that the longest order should take; a run has 20 at most, too
WORLDS = {10: 20}  # problems and worlds that are simulated; one of other sizes
KINDS = {"": worlds.random_problem, "balanced_": worlds.balanced_problem}
MOVED = {10: 10, 100: 2, 1_000: 1}  # sites, and problems of each kind in which some join and leave
HOW = ("in_runs", "without_memory")
ASKED = 100  # shards for each site of a plan that is asked what if
TARGETS = {
    "seconds_1k_sites": Target(1.0, at_least=False),
    "seconds_100k_sites": Target(30.0, at_least=False),
    "worst_gap_to_bound": Target(0.02, at_least=False),
    "worst_above_brute_force": Target(1e-6, at_least=False),
    "moved_over_fair_share": Target(1.5, at_least=False),
    "seconds_what_if_1k_sites": Target(1.0, at_least=False),
}


def plan_times(metrics: dict[str, float | None]) -> None:
    """Seconds of a plan for every size, the best of three where it is short."""
    for sites, shards in SIZES:
        problem = worlds.random_problem(sites, shards, seed=1)
        seconds = []
        for _ in range(3 if sites <= 1000 else 1):
            begin = time.perf_counter()
            plan = place(problem)
            seconds.append(time.perf_counter() - begin)
        metrics[f"seconds_{_named(sites)}"] = min(seconds)
        metrics[f"gap_{_named(sites)}"] = plan.gap


def simulated(metrics: dict[str, float | None]) -> list[str]:
    """Makespans over the bound of what really is, for every size; the mean where several worlds are played."""
    lines = [
        "| sites | shards | worlds | deaths | calm | as planned | watched | worst | plans | moved | planned again | plans | moved |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for sites, shards in SIZES:
        over: dict[str, list[float]] = {name: [] for name in ("simulated", "stay", "watch", "replan")}
        done: Counter[str] = Counter()
        for seed in range(1, WORLDS.get(sites, 1) + 1):
            problem = worlds.random_problem(sites, shards, seed)
            plan = place(problem)
            world = worlds.random_world(problem, seed + 1, within=plan.seconds)
            bound = place(worlds.as_it_is(problem, world)).lower_bound
            over["simulated"].append(events.simulate(problem, plan).seconds / plan.lower_bound)
            patience = dataclasses.replace(USUAL, looks=LOOKS[sites], longest_look=math.inf)
            for policy in (policies.stay, policies.watch, policies.replan):
                begin = time.perf_counter()
                outcome = events.simulate(problem, plan, world, policy, patience=patience)
                name = policy.__name__
                done[f"{name} seconds"] += time.perf_counter() - begin
                over[name].append(outcome.seconds / bound)
                done["lost"] += outcome.lost
                done[f"{name} plans"] += outcome.plans
                done[f"{name} moved"] += outcome.moved
            done["deaths"] += len(world.deaths)
        for name, ratios in over.items():
            metrics[f"{name}_over_bound_{_named(sites)}"] = float(np.mean(ratios))
        metrics[f"lost_{_named(sites)}"] = done["lost"]
        metrics[f"deaths_{_named(sites)}"] = done["deaths"]
        metrics[f"seconds_to_simulate_{_named(sites)}"] = done["watch seconds"] / len(over["watch"])
        cells = [f"{np.mean(over[name]):.3f}" for name in ("simulated", "stay", "watch")]
        cells += [f"{max(over['watch']):.3f}", f"{done['watch plans']}", f"{done['watch moved']:,}"]
        cells += [f"{np.mean(over['replan']):.3f}", f"{done['replan plans']}", f"{done['replan moved']:,}"]
        lines.append(f"| {sites:,} | {shards:,} | {len(over['watch'])} | {done['deaths']} | {' | '.join(cells)} |")
    return [
        *lines, "",
        "Calm, as planned, watched and planned again are simulated makespans over the lower bound, means over the worlds: where all"
        " is as measured; where sites and links are unlike their profiles and some sites die and come back, and no shard moves;"
        " where the run is looked at as a run is, by what has been answered, and shards move as in a run: away from who is taken for"
        " dead, else only if that gains enough; and where the programme is solved again at each look for all that is not answered"
        " yet and may move, whatever it gains. Worst: of the watched ones. Plans and moved: looks that moved shards, and how many"
        " these moved, in all worlds.",
    ]  # fmt: skip


def _named(sites: int) -> str:
    return f"{sites // 1000}k_sites" if sites >= 1000 else f"{sites}_sites"


def what_if(metrics: dict[str, float | None]) -> None:
    """What `cloudedge plan` does with one change, at 1,000 sites with a hundred shards each, once it has read the plan.

    That is: count where shards are, solve the programme with that, assign the shards, count those that another site
    would answer, lay out the table of both plans and print it. Left out are the start of Python and reading the plan.
    The least of three times, of the change that takes longest.
    """
    problem = worlds.random_problem(1000, 1000 * ASKED, seed=1)
    solution = solve(problem)
    made = _made(problem, solution)
    some = next(site.name for site in problem.sites if not site.cloud and site.name not in _resident(problem))
    changes = {
        "what_if": explain.change(problem, f"uplink of {some} = 5 Mbit/s"),
        "without": explain.without(problem, some),
        "add": explain.with_site(problem, explain.like(problem, some, "new-1")),
    }
    for name, after in changes.items():
        whole, solving = [], []
        for _ in range(3):
            begin = time.perf_counter()
            again, moves = planning.solve_again(made, after)
            solving.append(time.perf_counter() - begin)
            with contextlib.redirect_stdout(io.StringIO()):
                planning.show_both(made, (problem, solution), (after, again), moves)
            whole.append(time.perf_counter() - begin)
        metrics[f"seconds_{name}_1k_sites_solving"] = min(solving)
        metrics[f"seconds_{name}_1k_sites_printed"] = min(whole)
    metrics["seconds_what_if_1k_sites"] = max(
        metrics[f"seconds_{name}_1k_sites_printed"] or math.inf for name in changes
    )


def _made(problem: Problem, solution: Solution) -> Plan:
    """A stored plan of that solution, as far as planning again reads it."""
    placements = tuple(
        Placement.model_construct(
            shard=Shard.model_construct(digest=hashlib.sha256(f"{o} {i} {k}".encode()).hexdigest(), origin=o),
            site=i, codec="zstd", reused=False,
        )
        for (o, i, _), n in solution.counts.items() for k in range(n)
    )  # fmt: skip
    return Plan.model_construct(run_id="r", dataset="d", model="m", placements=placements)


def _resident(problem: Problem) -> set[str]:
    return {origin.site for origin in problem.origins if origin.resident}


def brute_force(metrics: dict[str, float | None]) -> None:
    """The most by which a plan of a small instance is above the best of all placements that keep disks and homes."""
    worst = 0.0
    for seed in range(SMALL_INSTANCES):
        rng = np.random.default_rng(seed)
        problem = worlds.random_problem(
            3, int(rng.integers(2, 6)), seed, resident=float(rng.choice([0.0, 0.2])), spread=float(rng.choice([3, 300]))
        )
        able = [counts for counts in every_placement(problem) if holds(problem, counts, 0.0)]
        best = min(costs_of(problem, counts)["makespan"] for counts in able)
        worst = max(worst, place(problem).seconds / best - 1)
    metrics["worst_above_brute_force"] = worst
    metrics["small_instances"] = SMALL_INSTANCES


def gaps(metrics: dict[str, float | None]) -> None:
    """The worst excess over the bound of many small and middling instances."""
    worst = raw = 0.0
    for seed in range(INSTANCES):
        rng = np.random.default_rng(seed)
        sites, shards = int(rng.integers(2, 40)), int(10 ** rng.uniform(2, 5))
        problem = worlds.random_problem(sites, shards, seed, resident=float(rng.choice([0.0, 0.2, 0.9])))
        plan = place(problem)
        a = Arrays(problem)
        o, m, _ = as_arrays(a, plan.counts)
        shard = float((a.shard_seconds(o, m) / a.threads[a.site[m]]).max())
        worst = max(worst, (plan.seconds - shard) / plan.lower_bound - 1)
        raw = max(raw, plan.gap)
    metrics["worst_gap_to_bound"] = worst
    metrics["worst_gap_without_the_shard"] = raw
    metrics["instances"] = INSTANCES


def rendezvous_rate(metrics: dict[str, float | None]) -> None:
    """A thousand shards a site: what a site that joins moves over what the quotas force.

    With a load of at most 1.05 and with exact quotas, where nothing is known of where the shards were; and as runs do
    it, with exact quotas, knowing that.
    """
    for sites in (10, 100, 1000):
        shards, names = (
            rendezvous.words([f"{kind}-{i}" for i in range(n)])
            for kind, n in (("shard", 1000 * (sites + 1)), ("site", sites + 1))
        )
        fewer, more = (len(shards) // n + (np.arange(n) < len(shards) % n) for n in (sites, sites + 1))
        forced = more[-1]  # no other has more than before
        for slack, name in ((0.05, ""), (0.0, "_exact")):
            begin = time.perf_counter()
            before = rendezvous.assign_words(shards, names[:sites], fewer, slack)
            metrics[f"seconds_to_assign_{sites}_sites{name}"] = time.perf_counter() - begin
            unknown = (before != rendezvous.assign_words(shards, names, more, slack)).sum()
            metrics[f"assignment_moved_{sites}_sites{name}"] = float(unknown / forced)
        known = (before != rendezvous.assign_words(shards, names, more, had=before)).sum()
        metrics[f"assignment_moved_{sites}_sites_in_runs"] = float(known / forced)


def plan_moves(metrics: dict[str, float | None]) -> None:
    """What whole plans move over a site's fair share: a site that leaves has its shards, one that joins what the best plan gives it.

    Knowing where the shards were, as runs do, and not knowing it; the worst of the sites. The worst in runs of all sizes,
    kinds and sites that join or leave is the headline. A site that joins is like one that is there; where its fair share is
    no shard, it is not counted.
    """
    worst = 0.0
    for (kind, make), (sites, problems) in itertools.product(KINDS.items(), MOVED.items()):
        ratios: dict[str, list[float]] = {f"{what}{how}": [] for what in ("", "joining_") for how in HOW}
        for seed in range(1, problems + 1):
            problem = make(sites, 200 * sites, seed)
            had = _counted(solve(problem))
            for what, after, fair in _comings_and_goings(problem, had):
                for how in HOW:
                    found = solve(after, had=had if how == "in_runs" else None)
                    ratios[f"{what}{how}"].append(moved(found, had) / fair)
        for name, each in ratios.items():
            metrics[f"plan_moved_over_fair_share_{sites}_sites_{kind}{name}"] = max(each, default=None)
        worst = max([worst, *ratios["in_runs"], *ratios["joining_in_runs"]])
    metrics["moved_over_fair_share"] = worst


def _comings_and_goings(problem: Problem, had: Counter[tuple[str, str]]) -> Iterator[tuple[str, Problem, int]]:
    """Some sites that leave and some that join: which it is, the problem then, and the fair share, above 0."""
    loads: Counter[str] = Counter()
    for (_, i), n in had.items():
        loads[i] += n
    fixed = _resident(problem)
    edges = [site.name for site in problem.sites if not site.cloud and site.name not in fixed and loads[site.name]]
    for name in edges[:: max(1, len(edges) // CHANGED)][:CHANGED]:
        yield "", explain.without(problem, name), loads[name]
        more = explain.with_site(problem, explain.like(problem, name, "new-1"))
        if fair := sum(n for (_, i), n in _counted(solve(more)).items() if i == "new-1"):
            yield "joining_", more, fair


def _counted(solution: Solution) -> Counter[tuple[str, str]]:
    """Shards by origin and site."""
    had: Counter[tuple[str, str]] = Counter()
    for (origin, site, _), n in solution.counts.items():
        had[origin, site] += n
    return had


def main() -> None:
    """Measure all, and write the block of the page."""
    measured = _results.commit()
    metrics: dict[str, float | None] = {}
    plan_times(metrics)
    lines = simulated(metrics)
    what_if(metrics)
    gaps(metrics)
    brute_force(metrics)
    rendezvous_rate(metrics)
    plan_moves(metrics)
    metrics["growth_1k_to_100k"] = (metrics["seconds_100k_sites"] or 0) / (metrics["seconds_1k_sites"] or 1)
    _results.write("plan", metrics, TARGETS, lines, measured)
    for line in _results.table(metrics, TARGETS):
        print(line)


if __name__ == "__main__":
    main()
