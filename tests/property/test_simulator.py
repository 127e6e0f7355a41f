"""The simulator: what the plan says in a calm world, and nothing lost or done twice in others."""

from __future__ import annotations

import dataclasses

import pytest

from infra import explain
from infra.placement.programme import place
from infra.simulator import events, policies, worlds

pytestmark = pytest.mark.property


@pytest.mark.parametrize("seed", range(5))
def test_in_a_calm_world_the_simulation_takes_what_the_plan_says(seed):
    problem = worlds.random_problem(30, 20_000, seed)
    plan = place(problem)
    outcome = events.simulate(problem, plan)
    assert outcome.answered == 20_000 or outcome.answered == sum(o.shards for o in problem.origins)
    assert outcome.seconds == pytest.approx(plan.seconds, rel=0.02)
    assert outcome.seconds >= plan.lower_bound * (1 - 0.01)


@pytest.mark.parametrize("seed", range(3))
def test_planning_again_helps_where_sites_die_and_nothing_is_lost_or_done_twice(seed):
    problem = worlds.random_problem(30, 20_000, seed, resident=0.1)
    plan = place(problem)
    world = worlds.random_world(problem, seed, noise=0.4, deaths=0.2, within=plan.seconds)
    total = sum(o.shards for o in problem.origins)
    left = events.simulate(problem, plan, world)
    again = events.simulate(problem, plan, world, policies.replan, every=plan.seconds / 5, duplicate=True)
    assert left.answered == again.answered == total
    assert again.moved > 0
    assert again.seconds <= left.seconds * 1.1  # each plan starts sites anew, which may be for nothing
    assert again == events.simulate(problem, plan, world, policies.replan, every=plan.seconds / 5, duplicate=True)


def test_a_site_that_dies_for_good_loses_only_what_may_not_move():
    problem = worlds.random_problem(6, 3000, 4, resident=0.0)
    stuck = problem.origins[0].site
    origins = tuple(dataclasses.replace(o, resident=o.site == stuck) for o in problem.origins)
    problem = dataclasses.replace(problem, origins=origins)
    plan = place(problem)
    world = worlds.World(deaths=((plan.seconds / 3, stuck),))
    outcome = events.simulate(problem, plan, world, policies.replan)
    assert 0 < outcome.lost < problem.origins[0].shards
    assert outcome.seconds == float("inf")


def test_a_site_that_joins_gets_work():
    problem = worlds.random_problem(8, 5000, 3, resident=0.0)
    fewer = explain.without(problem, "edge-7")
    plan = place(fewer)
    world = worlds.World(returns=((plan.seconds / 10, "edge-7"),))
    joined = events.simulate(problem, plan, world, policies.replan)
    assert joined.moved > 0
    assert joined.seconds <= events.simulate(problem, plan, world).seconds * 1.02


@pytest.mark.parametrize("seed", range(2))
def test_no_policy_beats_the_bound_for_the_speeds_that_the_sites_have(seed):
    problem = worlds.random_problem(8, 1000, seed)
    plan = place(problem)
    world = worlds.random_world(problem, seed, noise=0.5, deaths=0.2, within=plan.seconds)
    bound = place(worlds.as_it_is(problem, world)).lower_bound
    for policy in (policies.stay, policies.replan):
        outcome = events.simulate(problem, plan, world, policy, every=plan.seconds / 5, duplicate=True)
        assert outcome.lost == 0
        assert outcome.seconds >= bound * (1 - 1e-6)
    assert worlds.as_it_is(problem, worlds.CALM) == problem
