"""Decisions in mid-run: no shard is lost or made, nothing moves for nothing, and what moves ends the run sooner."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.placement import PlaceOrigin, PlaceSite, PlaceVariant, Problem
from infra.placement.programme import place, predict
from infra.replanning import (
    MARGIN,
    Pace,
    Standing,
    as_seen,
    believed,
    decide,
    duplicates,
    expected,
    moves_of,
    remainder,
    sent_beside,
)
from infra.simulator import events, policies, worlds
from infra.watching.state import USUAL

pytestmark = pytest.mark.property

sizes = st.integers(0, 40)
speeds = st.floats(0.001, 0.1)
factors = st.floats(0.05, 4)


def a_site(name, seconds, *, cloud=False, dispatch=0.05, startup=0.1):
    variant = PlaceVariant(name=f"v-{name}", seconds_per_row=seconds, startup_seconds=startup)
    return PlaceSite(
        name=name, cloud=cloud, host=name, host_cores=2, threads=1, variants=(variant,), dispatch_seconds=dispatch,
        latency_seconds=0.001, up=1e7, down=1e7,
    )  # fmt: skip


@st.composite
def runs(draw):
    """A problem and where its sites stand: what waits at each of every origin."""
    names = [f"s{i}" for i in range(draw(st.integers(2, 5)))]
    sites = [a_site(name, draw(speeds), cloud=name == "s0") for name in names]
    origins = tuple(PlaceOrigin(site=name, shards=1, rows=10, bytes=1e3, resident=False) for name in names[1:])
    problem = Problem(sites=tuple(sites), origins=origins, record_bytes=10.0)
    standings = [
        Standing(
            site=as_seen(site, draw(factors)), alive=draw(st.booleans()) or site.name == "s0", warm=draw(st.booleans()),
            busy=draw(st.floats(0, 5)),
            loose={(o.site, f"v-{site.name}"): n for o in origins if (n := draw(sizes))},
        )
        for site in sites
    ]  # fmt: skip
    return problem, standings


def after(standings, moves):
    """What waits where when the moves are made."""
    there = {s.site.name: Counter(s.loose) for s in standings}
    for frm, o, v, to, variant, n in moves:
        there[frm][o, v] -= n
        there[to][o, variant] += n
    return there


@given(runs())
def test_no_shard_is_lost_or_made_and_none_goes_to_a_site_that_is_gone(run):
    problem, standings = run
    for moves in (decide(problem, standings), moves_of(problem, standings)):
        there = after(standings, moves)
        for origin in problem.origins:
            before = sum(n for s in standings for (o, _), n in s.loose.items() if o == origin.site)
            assert sum(n for each in there.values() for (o, _), n in each.items() if o == origin.site) == before
        assert all(n >= 0 for each in there.values() for n in each.values())
        living = {s.site.name: s.site.variants[0].name for s in standings if s.alive}
        assert all(n > 0 and frm != to and living[to] == variant for frm, _, _, to, variant, n in moves)


@given(runs())
def test_nothing_stays_where_a_site_is_gone_and_nothing_else_moves_for_that(run):
    problem, standings = run
    gone = {s.site.name for s in standings if not s.alive and s.loose}
    moves = decide(problem, standings)
    if gone:
        assert {frm for frm, *_ in moves} == gone
        there = after(standings, moves)
        assert not any(n for name in gone for n in there[name].values())


@given(runs())
def test_a_change_ends_the_run_sooner_by_more_than_the_margin(run):
    problem, standings = run
    standings = [dataclasses.replace(s, alive=True) for s in standings]
    moves = decide(problem, standings)
    if not moves:
        return
    rest = remainder(problem, standings)

    def seconds(there):
        return predict(rest, {(o, name, v): n for name, each in there.items() for (o, v), n in each.items() if n})[0]

    now, then = seconds(after(standings, [])), seconds(after(standings, moves))
    assert now - then > MARGIN * now
    assert decide(problem, _moved(standings, moves)) == [], "it is not changed back, nor further"


def _moved(standings, moves):
    there = after(standings, moves)
    return [dataclasses.replace(s, loose={k: n for k, n in there[s.site.name].items() if n}) for s in standings]


@settings(max_examples=25)
@given(st.lists(speeds, min_size=2, max_size=5), st.lists(sizes, min_size=4, max_size=4))
def test_a_plan_that_goes_as_planned_is_left_alone(seconds, counts):
    sites = [a_site(f"s{i}", each, cloud=i == 0) for i, each in enumerate(seconds)]
    born = [(site.name, n) for site, n in zip(sites[1:], counts, strict=False) if n]
    origins = tuple(PlaceOrigin(site=name, shards=n, rows=10, bytes=1e3, resident=False) for name, n in born)
    problem = Problem(sites=tuple(sites), origins=origins, record_bytes=10.0)
    if not origins:
        return
    plan = place(problem)
    standings = [
        Standing(site=s, loose={(o, v): n for (o, i, v), n in plan.counts.items() if i == s.name}) for s in sites
    ]
    assert decide(problem, standings) == []


@st.composite
def demanding_runs(draw):
    """Runs some of whose shards are answered, at sites that are more and less accurate; what was to stay is larger as it lies."""
    problem, standings = draw(runs())
    accuracy = {site.name: draw(st.sampled_from([0.8, 0.9, 0.95, 0.99])) for site in problem.sites}

    def with_accuracy(site):
        variants = tuple(dataclasses.replace(v, accuracy=accuracy[site.name]) for v in site.variants)
        return dataclasses.replace(site, variants=variants)

    kept_bytes = draw(st.sampled_from([0.0, 4e3]))
    origins = tuple(dataclasses.replace(o, kept_bytes=kept_bytes) for o in problem.origins)
    problem = dataclasses.replace(
        problem,
        sites=tuple(map(with_accuracy, problem.sites)),
        origins=origins,
        result_bytes=draw(st.sampled_from([0.0, 50.0])),
    )
    standings = [
        dataclasses.replace(
            s, site=with_accuracy(s.site), kept={(o.site, f"v-{s.site.name}"): n for o in origins if (n := draw(sizes))}
        )
        for s in standings
    ]
    return problem, standings


def rightly(problem, standings, moves=()):
    """Expected share of right answers, by rows: all origins have the same."""
    quality = {v.name: v.accuracy for site in problem.sites for v in site.variants}
    counts = Counter()
    for there in (after(standings, moves).values(), [s.kept for s in standings]):
        for each in there:
            for (_, v), n in each.items():
                counts[v] += n
    return sum(quality[v] * n for v, n in counts.items()) / max(1, counts.total())


@given(demanding_runs(), st.floats(0, 1))
def test_a_change_keeps_the_floor_of_accuracy_whoever_is_gone(run, share):
    """Where the plan is below it by a hair, it gets no worse."""
    problem, standings = run
    now = rightly(problem, standings)
    floor = 0.8 + share * (now - 0.8)
    for asked in (floor, now + 1e-3):
        strict = dataclasses.replace(problem, accuracy=asked)
        moves = decide(strict, standings)
        assert rightly(problem, standings, moves) >= min(asked, now) - 1e-5


def test_a_floor_that_is_kept_with_much_to_spare_hinders_nothing():
    run = two_accurate(0.99, 0.9)
    standings = [dataclasses.replace(run[1][0], kept={("s1", "v-s0"): 1000}), run[1][1]]
    (free,) = decide(*run)
    (strict,) = decide(dataclasses.replace(run[0], accuracy=0.95), run[1])
    assert strict[5] == 17 < free[5], "with one more there it would be below"
    assert decide(dataclasses.replace(run[0], accuracy=0.95), standings) == [free]


def two_accurate(slow, quick, loose=40):
    """Everything waits at an edge that is ten times slower than the cloud."""
    sites = [a_site("s0", 0.1), a_site("s1", 0.01, cloud=True)]
    sites = [
        dataclasses.replace(site, variants=(dataclasses.replace(site.variants[0], accuracy=accuracy),))
        for site, accuracy in zip(sites, (slow, quick), strict=True)
    ]
    origin = PlaceOrigin(site="s1", shards=1, rows=10, bytes=1e3, resident=False)
    problem = Problem(sites=tuple(sites), origins=(origin,), record_bytes=10.0)
    return problem, [Standing(site=sites[0], loose={("s1", "v-s0"): loose}), Standing(site=sites[1])]


def crossing(problem, origin, site):
    """Links of edges that a shard crosses from its origin to a site."""
    edges = {each.name for each in problem.sites if not each.cloud}
    return 0 if origin == site else (origin in edges) + (site in edges)


@given(demanding_runs(), st.floats(1, 1.5), st.data())
def test_a_cap_on_bytes_holds_through_change_after_change(run, room, data):
    """Every shard that moves is sent anew over all links, as large as it lies; nothing that was sent is forgotten."""
    problem, standings = run
    standings = [dataclasses.replace(s, alive=True) for s in standings]
    size, kept = problem.origins[0].bytes, problem.origins[0].kept_bytes
    sent = sum(
        n * size * crossing(problem, o, s.site.name)
        for s in standings for queue in (s.loose, s.kept) for (o, _), n in queue.items()
    )  # fmt: skip
    edges = [s for s in standings if not s.site.cloud]

    def answers():
        return problem.result_bytes * sum(n for s in edges for queue in (s.loose, s.kept) for n in queue.values())

    cap, beside = room * (sent + answers()) + 1, 0.0
    for _ in range(3):
        capped = dataclasses.replace(problem, caps={"bytes": cap - beside})
        moves = decide(capped, standings)
        beside += sent_beside(problem, moves)
        for frm, o, _, to, _, n in moves:
            sent += n * (max(size, kept) if frm == o else size) * crossing(problem, o, to)
        standings = _moved(standings, moves)
        edges = [s for s in standings if not s.site.cloud]
        assert sent + answers() <= cap * (1 + 1e-6)
        standings = [
            dataclasses.replace(s, site=as_seen(s.site, data.draw(factors)), **_answered(s, data.draw(st.floats(0, 1))))
            for s in standings
        ]
        edges = [s for s in standings if not s.site.cloud]


def _answered(standing, share):
    done = {key: int(share * n) for key, n in standing.loose.items()}
    left = {key: n - done[key] for key, n in standing.loose.items() if n > done[key]}
    return {"loose": left, "kept": dict(Counter(standing.kept) + Counter(done))}


def test_within_a_cap_on_bytes_a_change_is_made_as_far_as_it_allows():
    problem, standings = two_accurate(1.0, 1.0)
    standings[0] = dataclasses.replace(standings[0], loose={("s0", "v-s0"): 40})
    home = PlaceOrigin(site="s0", shards=1, rows=10, bytes=1e3, resident=False)
    problem = dataclasses.replace(problem, origins=(home,))
    (free,) = decide(problem, standings)
    (capped,) = decide(dataclasses.replace(problem, caps={"bytes": 20_500.0}), standings)
    assert capped[5] == 20 < free[5]
    assert decide(dataclasses.replace(problem, caps={"bytes": 900.0}), standings) == []
    assert decide(dataclasses.replace(problem, caps={"money": 1e9}), standings) == []
    assert decide(dataclasses.replace(problem, caps={"makespan": 0.1}), standings) == [free], "sooner is no harm to it"
    gone = [dataclasses.replace(standings[0], alive=False), standings[1]]
    assert decide(dataclasses.replace(problem, caps={"bytes": 900.0}), gone)[0][5] == 40, "rather than not at all"


paces = st.builds(
    Pace, shards=st.integers(1, 1000), start=st.floats(0, 10), each=st.floats(0.001, 10), elapsed=st.just(0.0)
)


@given(paces, st.floats(0, 1))
def test_who_is_on_time_is_not_late(pace, share):
    """Whatever the moment: answers come one by one, half a shard is under way on average."""
    elapsed = share * pace.planned
    worked = max(0.0, elapsed - pace.start)
    answered = min(pace.shards, int(worked / pace.each))
    since = worked - pace.each if answered else 0.0
    seen = dataclasses.replace(pace, elapsed=elapsed, answered=answered, since_first=max(0.0, since))
    assert not seen.late
    assert seen.remaining >= 0


@given(paces, st.floats(3, 50))
def test_who_is_slower_by_far_is_late_before_it_should_have_ended(pace, slower):
    """Half of what should be done is not: at the planned end this is long known, if there were shards to tell it by."""
    if pace.shards < 8 or pace.shards * pace.each < 4:
        return
    worked = pace.shards * pace.each
    answered = int(worked / (slower * pace.each))
    since = worked - slower * pace.each if answered else 0.0
    seen = dataclasses.replace(pace, elapsed=pace.start + worked, answered=answered, since_first=max(0.0, since))
    assert seen.late
    if seen.answered and seen.since_first > 2 * seen.each:
        assert seen.factor <= 1.05


@given(paces, st.integers(0, 5), st.floats(1, 1e4))
def test_who_hangs_gets_ever_slower(pace, answered, long):
    answered = min(answered, pace.shards - 1)
    seen = [
        dataclasses.replace(pace, elapsed=pace.planned + t, answered=answered, since_first=pace.planned + t)
        for t in (long, 2 * long)
    ]
    assert seen[1].remaining >= seen[0].remaining * 0.99
    assert seen[1].factor <= seen[0].factor


@given(runs(), st.floats(0, 100))
def test_a_copy_is_made_only_where_it_comes_sooner(run, left):
    problem, standings = run
    slow = dataclasses.replace(standings[1], alive=True, begun={(problem.origins[0].site, "v-s1"): 2}, busy=left)
    standings = [standings[0], slow, *standings[2:]]
    for frm, _, _, to, _, n in (found := duplicates(problem, standings, {"s1": left})):
        assert (frm, n) == ("s1", 2)
        other = next(s for s in standings if s.site.name == to)
        assert other.alive
        assert not other.busy
        assert not other.loose
        assert other.site.dispatch_seconds < left
    assert len(found) <= 1
    heavy = tuple(dataclasses.replace(origin, kept_bytes=1e15) for origin in problem.origins)
    far = duplicates(dataclasses.replace(problem, origins=heavy), standings, {"s1": left})
    assert all(origin == to for _, origin, _, to, _, _ in far), "it would have to be sent first"


def test_a_copy_is_made_by_nobody_who_is_less_accurate_than_asked_and_not_at_all_where_more_is_asked():
    for floor, quick, copies in ((0.0, 0.9, 1), (0.95, 0.9, 0), (0.95, 0.99, 1)):
        problem, standings = two_accurate(0.99, quick, loose=0)
        standings[0] = dataclasses.replace(standings[0], begun={("s1", "v-s0"): 2}, busy=100.0, loose={})
        found = duplicates(dataclasses.replace(problem, accuracy=floor), standings, {"s0": 100.0})
        assert len(found) == copies
    for demands in ({"caps": {"bytes": 1e12}}, {"caps": {"money": 1e12}}, {"objective": "bytes"}):
        assert duplicates(dataclasses.replace(problem, **demands), standings, {"s0": 100.0}) == []


@pytest.mark.parametrize("seed", range(3))
def test_what_a_watched_run_does_helps_in_the_simulator_and_loses_nothing(seed):
    problem = worlds.random_problem(30, 20_000, seed, resident=0.1)
    plan = place(problem)
    world = worlds.random_world(problem, seed, noise=0.4, deaths=0.2, within=plan.seconds)
    patience = dataclasses.replace(USUAL, looks=10, longest_look=float("inf"), lease=1.0)
    left = events.simulate(problem, plan, world)
    watched = events.simulate(problem, plan, world, policies.watch, patience=patience)
    often = events.simulate(problem, plan, world, policies.replan, patience=patience)
    assert watched.answered == left.answered == sum(o.shards for o in problem.origins)
    assert watched.plans > 0
    assert watched.seconds <= left.seconds * 1.1
    assert watched.moved <= often.moved
    assert watched.plans <= often.plans


@given(paces, st.floats(0.001, 100), st.floats(0.001, 1))
def test_a_speed_is_believed_within_reason(pace, seconds, before):
    """No faster than measured; a wait for links that was planned is no slowness of the site."""
    found = believed(pace, pace.each / 4, seconds, before)
    assert 0 < found <= 1
    assert believed(pace, pace.each / 4, pace.each, before) == 1, "as planned"
    assert believed(pace, pace.each, 4 * pace.each, before) == pytest.approx(0.25)
    assert believed(pace, pace.each, 0.0, before) == before, "nothing was seen"


@given(st.integers(0, 100), st.floats(0.001, 10), st.floats(0, 10), st.floats(0, 1000))
def test_an_order_is_expected_to_take_what_the_plan_says_or_its_work(shards, work, start, planned):
    pace = expected(shards, work, start, planned)
    assert pace.planned == pytest.approx(max(planned, start + shards * work) if shards else start)


def test_what_hangs_is_answered_elsewhere_too_even_if_moving_the_rest_is_not_worth_it():
    """Seen late, a shard that hangs is all of what remains, and moving those behind it brings the end no nearer."""
    variant = PlaceVariant(name="v", seconds_per_row=0.005, startup_seconds=0.01, escalation=0.0)
    quick, stuck = (
        PlaceSite(name=name, cloud=False, host=name, host_cores=1, threads=1, variants=(variant,), dispatch_seconds=0.01,
                  latency_seconds=0.0, up=1e9, down=1e9)
        for name in ("edge-1", "edge-2")
    )  # fmt: skip
    origin = PlaceOrigin(site="edge-2", shards=12, rows=4, bytes=100.0, resident=False)
    problem = Problem(sites=(quick, stuck), origins=(origin,), record_bytes=10.0)
    key = ("edge-2", "v")
    standings = [
        Standing(site=quick, alive=True),
        Standing(site=stuck, alive=True, warm=True, busy=300.0, loose={key: 11}, begun={key: 1}, kept={key: 1}),
    ]
    assert decide(problem, standings) == []
    assert duplicates(problem, standings, {"edge-2": 300.2}) == [("edge-2", "edge-2", "v", "edge-1", "v", 1)]
