"""The published suite where whole numbers are not solved for: relaxation, rounding and repair see disks, caps and floors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import PlanError
from infra.placement import OBJECTIVES
from infra.placement import programme as rule
from infra.placement._arrays import Arrays, evaluate
from infra.placement._rounding import largest_remainders
from infra.placement.programme import costs_of, place
from infra.simulator import worlds
from infra.testing import placement_suite as suite
from infra.testing.placement_suite import every_placement, holds, problems, require_sound, value

pytestmark = pytest.mark.property

EXACT = (  # what only whole numbers promise: the best of all, to a hundred-thousandth
    suite.check_no_placement_is_better, suite.check_no_placement_is_better_by_another_objective,
    suite.check_more_speed_or_bandwidth_is_never_worse,
)  # fmt: skip


@pytest.fixture(autouse=True)
def relaxed(monkeypatch):
    monkeypatch.setattr(rule, "SMALL", 0)


@pytest.mark.parametrize(
    "check", [each for each in suite.CHECKS if each not in EXACT], ids=lambda each: each.__name__.removeprefix("check_")
)
def test_the_suite(check):
    check(rule)


@settings(max_examples=40)
@given(problems(shards=3, priced=True), st.sampled_from(OBJECTIVES), st.sampled_from([0.0, 0.95]), st.data())
def test_what_can_be_placed_is_and_near_the_best_of_all_placements(problem, objective, floor, data):
    """With disks that are full, caps and a floor: two per cent and a shard from the best, and the bound below it."""
    everything = list(every_placement(problem))
    caps = {}
    if data.draw(st.booleans()):
        rival = data.draw(st.sampled_from([name for name in OBJECTIVES if name != objective]))
        found = sorted(costs_of(problem, counts)[rival] for counts in everything)
        caps = {rival: data.draw(st.sampled_from([found[0] * 0.9, found[len(found) // 3], found[-1]]))}
    problem = dataclasses.replace(problem, objective=objective, caps=caps, accuracy=floor)
    able = [counts for counts in everything if holds(problem, counts, 0.0)]
    if not able:
        if not any(holds(problem, counts) for counts in everything):
            with pytest.raises(PlanError):
                place(problem)
        return
    least = min(costs_of(problem, counts)[objective] for counts in able)
    solution = place(problem)
    require_sound(problem, solution)
    assert solution.lower_bound <= least * (1 + suite.CLOSE) + 1e-9
    shard = max(costs_of(problem, {pair: 1})[objective] for pair in solution.counts)
    assert value(problem, solution) <= least * 1.02 + shard + 1e-6


def crowded(sites, seed):
    """Wide links, no cloud that does it all, and every site's disk full of a few shards."""
    problem = worlds.random_problem(sites, 200 * sites, seed, small=1.0, resident=0.1)
    tight = tuple(
        dataclasses.replace(
            site, up=site.up * 1e3, down=site.down * 1e3, disk_bytes=1e6 if site.cloud else site.disk_bytes / 2 + 2e4,
            variants=tuple(dataclasses.replace(v, seconds_per_row=v.seconds_per_row * (20 if site.cloud else 1)) for v in site.variants),
        )
        for site in problem.sites
    )  # fmt: skip
    return dataclasses.replace(problem, sites=tight)


@pytest.mark.parametrize("large", [6000, 10])
@pytest.mark.parametrize("seed", [1, 2])
def test_full_disks_at_scale_keep_their_row_and_cost_little(seed, large, monkeypatch):
    monkeypatch.setattr(rule, "LARGE", large)
    problem = crowded(300, seed)
    solution = place(problem)
    require_sound(problem, solution)
    a = Arrays(problem)
    costs = evaluate(a, *rule.as_arrays(a, solution.counts))
    assert (costs.disk > 0.9 * a.disk).sum() >= 5, "disks are what limits it"
    assert solution.gap < 0.02


def test_shards_of_many_sizes_fill_disks_too():
    """A class of the pool is as light as its lightest shard, so what is rounded may not fit and goes back home."""
    problem = crowded(60, 1)
    rng = np.random.default_rng(1)
    origins = tuple(
        dataclasses.replace(o, rows=o.rows * float(f), bytes=o.bytes * float(g))
        for o, f, g in zip(problem.origins, *rng.uniform(0.5, 2, (2, len(problem.origins))), strict=True)
    )
    problem = dataclasses.replace(problem, origins=origins)
    solution = place(problem)
    require_sound(problem, solution)
    at_home = costs_of(problem, {(o.site, o.site, "v"): o.shards for o in origins})
    assert solution.seconds < at_home["makespan"] * 0.9


def test_a_random_problem_has_disks_of_every_size():
    disks = [site.disk_bytes for site in worlds.random_problem(100, 20_000, 1).sites if not site.cloud]
    finite = [each for each in disks if each < math.inf]
    assert 15 < len(finite) < 50
    assert 0 <= min(finite) < max(finite) <= worlds.SHARD_BYTES * 20_000 / 99
    assert all(s.disk_bytes == math.inf for s in worlds.random_problem(100, 20_000, 1, small=0.0).sites)


def test_what_is_full_is_rounded_up_only_where_nothing_else_is_left():
    real, group, full = np.array([1.5, 1.4, 1.1]), np.zeros(3, np.int64), np.array([True, False, False])
    assert largest_remainders(real, group, np.array([4])).tolist() == [2, 1, 1]
    assert largest_remainders(real, group, np.array([4]), full).tolist() == [1, 2, 1]
    assert largest_remainders(real, group, np.array([6]), full).tolist() == [2, 2, 2]
