"""Plans that know where shards were: as good as others, or nearly, and they move a fair share where others move all."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import PlanError
from infra import explain
from infra.placement import OBJECTIVES
from infra.simulator.worlds import balanced_problem, random_problem
from infra.solving import NEARLY, moved, solve
from infra.testing.placement_suite import problems, require_sound, value

pytestmark = pytest.mark.property


def counted(solution):
    """By origin and site."""
    had = Counter()
    for (origin, site, _), n in solution.counts.items():
        had[origin, site] += n
    return had


@pytest.mark.parametrize("sites", [8, 40])
@pytest.mark.parametrize("seed", range(3))
def test_a_site_that_joins_or_leaves_moves_at_most_one_and_a_half_times_its_fair_share(sites, seed):
    problem = balanced_problem(sites, 200 * sites, seed)
    first = solve(problem)
    had = counted(first)
    assert solve(problem, had=had).counts == first.counts, "planned again, nothing moves"
    fixed = {origin.site for origin in problem.origins if origin.resident}
    gone = max((site.name for site in problem.sites if site.name not in fixed and not site.cloud),
               key=lambda name: sum(n for (_, i), n in had.items() if i == name))  # fmt: skip
    without = explain.without(problem, gone)
    left = solve(without, had=had)
    require_sound(without, left)
    assert left.seconds <= solve(without).seconds * (1 + NEARLY)
    assert moved(left, had) <= 1.5 * sum(n for (_, i), n in had.items() if i == gone)
    more = explain.with_site(problem, explain.like(problem, gone, "one-more"))
    free, joined = solve(more), solve(more, had=had)
    require_sound(more, joined)
    assert joined.seconds <= free.seconds * (1 + NEARLY)
    assert moved(joined, had) <= 1.5 * sum(n for (_, i), n in counted(free).items() if i == "one-more")


@pytest.mark.parametrize(
    ("make", "sites", "seed"),
    [(balanced_problem, 10, 1), (balanced_problem, 10, 3), (balanced_problem, 40, 2), (random_problem, 40, 2), (random_problem, 100, 1)],
)  # fmt: skip
def test_removing_a_site_moves_its_shards_and_no_others(make, sites, seed):
    """By the plan that a run makes: no other site loses a shard, and the plan is nearly as good as the best."""
    problem = make(sites, 200 * sites, seed)
    had = counted(solve(problem))
    fixed = {origin.site for origin in problem.origins if origin.resident}
    loads = Counter()
    for (_, site), n in had.items():
        loads[site] += n
    edges = [name for name in sorted(loads) if name.startswith("edge") and name not in fixed]
    assert edges
    for gone in edges[:: len(edges) // 3 + 1]:
        without = explain.without(problem, gone)
        left = solve(without, had=had)
        require_sound(without, left)
        now = counted(left)
        assert [pair for pair, n in had.items() if pair[1] != gone and now[pair] < n] == []
        assert moved(left, had) == loads[gone] > 0
        assert left.seconds <= solve(without).seconds * (1 + NEARLY)


@pytest.mark.parametrize("seed", [1, 4, 10])
def test_where_few_links_are_the_limit_a_site_that_leaves_moves_little_more_than_its_shards(seed):
    """What stays needs the links too; and where the site was what all waited for, only what is in the way moves."""
    problem = random_problem(10, 2000, seed)
    had = counted(solve(problem))
    fixed = {origin.site for origin in problem.origins if origin.resident}
    edges = {i for _, i in had if i.startswith("edge") and i not in fixed}
    assert edges
    for gone in edges:
        without = explain.without(problem, gone)
        left = solve(without, had=had)
        require_sound(without, left)
        assert left.seconds <= solve(without).seconds * (1 + NEARLY)
        assert moved(left, had) <= 1.5 * sum(n for (_, i), n in had.items() if i == gone)


@given(problems(shards=6, priced=True), st.sampled_from(OBJECTIVES), st.sampled_from([0.0, 0.93]), st.randoms())
def test_wherever_the_shards_were_the_plan_is_sound_and_nearly_as_good(problem, objective, floor, random):
    problem = dataclasses.replace(problem, objective=objective, accuracy=floor)
    had = Counter()
    for origin in problem.origins:
        for _ in range(random.randint(0, origin.shards)):
            had[origin.site, random.choice(["a", "b", "cloud", "gone"])] += 1
    try:
        free = solve(problem)
    except PlanError:
        with pytest.raises(PlanError):
            solve(problem, had=had)
        return
    found = solve(problem, had=had)
    require_sound(problem, found)
    assert value(problem, found) <= value(problem, free) * (1 + NEARLY) + 1e-12
    assert moved(found, had) <= moved(free, had)
    assert found.lower_bound <= free.lower_bound * (1 + 1e-9) + 1e-12
    assert len({i for _, i, _ in found.counts}) == len({(i, v) for _, i, v in found.counts})
