"""The simulator: what the plan says in a calm world, and nothing lost or done twice in others."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from infra import explain
from infra.placement.programme import place, stated
from infra.replanning import MARGIN, Pace, sent_beside
from infra.simulator import events, policies, worlds
from infra.simulator.workers import Order, Worker
from infra.watching.state import USUAL

pytestmark = pytest.mark.property

SOON = dataclasses.replace(USUAL, looks=5, longest_look=float("inf"), lease=1.0)


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
    again = events.simulate(problem, plan, world, policies.replan, patience=SOON)
    assert left.answered == again.answered == total
    assert again.moved > 0
    assert again.seconds <= left.seconds * 1.1  # each plan starts sites anew, which may be for nothing
    assert again == events.simulate(problem, plan, world, policies.replan, patience=SOON)


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
    """A quick one: what it gains is worth a move to a run that is watched, too."""
    problem = worlds.random_problem(8, 5000, 5, resident=0.0)
    problem = explain.change(
        explain.change(problem, "speed of edge-7 = 100000 rows/s"), "downlink of edge-7 = 9 Gbit/s"
    )
    fewer = explain.without(problem, "edge-7")
    plan = place(fewer)
    world = worlds.World(returns=((plan.seconds / 10, "edge-7"),))
    left = events.simulate(problem, plan, world)
    for policy in (policies.watch, policies.replan):
        joined = events.simulate(problem, plan, world, policy, patience=SOON)
        assert joined.moved > 0
        assert joined.seconds < left.seconds


@pytest.mark.parametrize("seed", range(2))
def test_no_policy_beats_the_bound_for_the_speeds_and_links_that_the_sites_have(seed):
    problem = worlds.random_problem(8, 1000, seed)
    plan = place(problem)
    world = worlds.random_world(problem, seed, noise=0.5, deaths=0.2, within=plan.seconds)
    bound = place(worlds.as_it_is(problem, world)).lower_bound
    for policy in (policies.stay, policies.watch, policies.replan):
        outcome = events.simulate(problem, plan, world, policy, patience=SOON)
        assert outcome.lost == 0
        assert outcome.seconds >= bound * (1 - 1e-6)
    assert worlds.as_it_is(problem, worlds.CALM) == problem


# --- what was asked of the plan ---------------------------------------------------------------------------------


def watched(seed, **demands):
    """A problem of sites that are unlike in accuracy, its plan, and what a watched run made of that: counts, moves, copies.

    Sites are slower and faster than the plan knew, and none dies: what lies at one that is gone may be placed outside a cap.
    """
    problem = worlds.random_problem(30, 20_000, seed, resident=0.1)
    sites = tuple(
        dataclasses.replace(
            site, variants=(dataclasses.replace(site.variants[0], accuracy=0.9 if k % 3 else 0.99, escalation=0.0),)
        )
        for k, site in enumerate(problem.sites)
    )
    problem = dataclasses.replace(problem, sites=sites, **demands)
    plan = place(problem)
    moves, copies = [], []

    def noted(state):
        change = policies.watch(state)
        moves.extend(change.moves)
        copies.extend(change.twice)
        return change

    world = worlds.random_world(problem, seed, noise=0.8, deaths=0.0)
    assert events.simulate(problem, plan, world, noted, patience=SOON).lost == 0
    counts = Counter(plan.counts)
    for frm, o, v, to, variant, n in (*moves, *copies):
        counts[o, frm, v] -= n
        counts[o, to, variant] += n
    return problem, plan, +counts, moves, copies


@pytest.mark.parametrize("seed", range(3))
def test_a_watched_run_keeps_the_floor_of_accuracy(seed):
    free = watched(seed)[1].accuracy
    problem, _, counts, moves, _ = watched(seed, accuracy=free + 0.01)
    assert moves
    assert stated(problem, counts, 0.0).accuracy >= free + 0.01 - 1e-5


@pytest.mark.parametrize(("seed", "room"), [(0, 2.0), (1, 1.1), (2, 1.3)])
def test_a_watched_run_keeps_a_cap_on_bytes_and_answers_nothing_twice(seed, room):
    cap = room * watched(seed)[1].bytes
    problem, _, counts, moves, copies = watched(seed, caps={"bytes": cap})
    assert moves
    assert copies == []
    assert stated(problem, counts, 0.0).bytes + sent_beside(problem, moves) <= cap * (1 + 1e-9)


# --- what a policy sees -----------------------------------------------------------------------------------------


def looks_of(problem, plan, world, patience=SOON):
    """What a policy that moves nothing is shown, look by look."""
    shown = []

    def note(state):
        shown.append((state.now, state.sites))
        return policies.Change()

    events.simulate(problem, plan, world, note, patience=patience)
    return shown


def test_a_policy_sees_the_profile_and_counts_and_tells_the_speed_from_them():
    """At the first look nothing of the world but what has been answered; a slow site is found out, a slow link as well."""
    problem = worlds.random_problem(12, 20_000, 3, resident=0.0)
    plan = place(problem)
    slow = max((s for s in problem.sites if not s.cloud), key=lambda s: plan.counts.get((s.name, s.name, "v"), 0)).name
    looks = looks_of(problem, plan, worlds.World(speed={slow: 0.25}))
    for _, sites in looks:
        assert all(seen.site in problem.sites for seen in sites.values()), "as it was measured"
        assert all(0 < seen.factor <= 1 for seen in sites.values())
    _, first = looks[0]
    assert first[slow].pace.answered > 0
    assert first[slow].factor == pytest.approx(0.25, rel=0.15)
    assert first[slow].pace.late
    assert {name for name, seen in first.items() if seen.pace and seen.pace.late} == {slow}
    assert min(seen.factor for name, seen in first.items() if name != slow) > 1 / (1 + MARGIN)


def test_a_site_is_taken_for_dead_after_a_lease_and_not_before():
    problem = worlds.random_problem(12, 20_000, 3, resident=0.0)
    plan = place(problem)
    patience = dataclasses.replace(SOON, looks=50, lease=plan.seconds / 5)
    dead, died = "edge-5", plan.seconds / 10
    looks = looks_of(problem, plan, worlds.World(deaths=((died, dead),)), patience)
    for now, sites in looks:
        assert sites[dead].alive == (now <= died + patience.lease)
    assert {sites[dead].alive for _, sites in looks} == {True, False}
    back = worlds.World(deaths=((died, dead),), returns=((died + patience.lease / 2, dead),))
    assert all(sites[dead].alive for _, sites in looks_of(problem, plan, back, patience))


def test_a_link_that_is_slower_than_its_profile_makes_its_taker_late():
    problem = worlds.random_problem(12, 20_000, 3, resident=0.0)
    plan = place(problem)
    world = worlds.World(links={"edge-6": 0.02})
    assert place(worlds.as_it_is(problem, world)).lower_bound > plan.lower_bound
    assert any(seen.pace and seen.pace.late for _, sites in looks_of(problem, plan, world) for seen in sites.values())
    left, watched = (events.simulate(problem, plan, world, policy) for policy in (policies.stay, policies.watch))
    assert watched.plans > 0
    assert watched.seconds < left.seconds * 0.9


def test_an_order_that_is_done_is_followed_by_what_more_the_site_was_given():
    problem = worlds.random_problem(4, 100, 1)
    site, origin = problem.sites[1], problem.origins[0]
    worker = Worker(site, site, waiting={(origin.site, "v"): 10})
    worker.hand(5.0, {origin.site: origin})
    assert isinstance(worker.order, Order)
    assert worker.pace(6.0) == Pace(shards=10, start=worker.order.pace.start, each=worker.order.work, elapsed=1.0)
    worker.answered, worker.order.withdrawn = {(origin.site, "v"): 7}, 3
    assert worker.open == 0


@pytest.mark.parametrize("seed", range(3))
def test_some_edge_dies_in_a_small_world_too(seed):
    problem = worlds.random_problem(10, 1000, seed)
    world = worlds.random_world(problem, seed)
    assert len(world.deaths) == len(world.returns) >= 1
    assert not worlds.random_world(problem, seed, deaths=0.0).deaths
    assert world.links.keys() == world.speed.keys() == {site.name for site in problem.sites}
    assert set(world.links.values()).isdisjoint(world.speed.values())
