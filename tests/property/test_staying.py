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
from infra.simulator.worlds import random_problem
from infra.solving import NEARLY, moved, solve
from infra.testing.placement_suite import problems, require_sound, value

pytestmark = pytest.mark.property


def counted(solution):
    """By origin and site."""
    had = Counter()
    for (origin, site, _), n in solution.counts.items():
        had[origin, site] += n
    return had


def balanced(sites, seed):
    """Sites whose links are wide and whose clouds are no quicker than an edge: every site counts."""
    problem = random_problem(sites, 200 * sites, seed, resident=0.1, spread=3)
    wide = tuple(
        dataclasses.replace(
            site, up=site.up * 1e4, down=site.down * 1e4,
            variants=tuple(dataclasses.replace(v, seconds_per_row=v.seconds_per_row * (20 if site.cloud else 1)) for v in site.variants),
        )
        for site in problem.sites
    )  # fmt: skip
    return dataclasses.replace(problem, sites=wide)


@pytest.mark.parametrize("sites", [8, 40])
@pytest.mark.parametrize("seed", range(3))
def test_a_site_that_joins_or_leaves_moves_at_most_one_and_a_half_times_its_fair_share(sites, seed):
    problem = balanced(sites, seed)
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
