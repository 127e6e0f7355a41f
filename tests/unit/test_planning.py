"""A plan as a person asks for it and reads it: demands, the stored problem, why, what if, and the picture."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudedge import planning
from data_catalog.errors import BadInput, CatalogError, CorruptObject, PlanError, UnknownName
from data_catalog.nouns import Placement, Plan, Shard
from infra import additions, explain, plan_table
from infra.demands import in_words, read_demands
from infra.placement import OBJECTIVES, PlacePrices
from infra.placement.programme import costs_of, place
from infra.problem import from_json, to_json
from infra.report import plan_chart
from infra.simulator.worlds import random_problem
from infra.solving import solve
from infra.testing.placement_suite import problems

pytestmark = pytest.mark.unit


# --- what is asked ------------------------------------------------------------------------------------------


def test_demands_are_read_as_they_are_written():
    asked = read_demands("bytes", ("30s", "1.5 MB", "2.5 money"), 0.97)
    assert asked.objective == "bytes"
    assert asked.caps == {"makespan": 30, "bytes": 1.5e6, "money": 2.5}
    assert in_words(asked.objective, asked.caps, asked.accuracy) == (
        "least bytes, at most 30 s, at most 1,500,000 bytes, at most 2.5 money, an accuracy of at least 97.00%"
    )


@pytest.mark.parametrize(
    ("amounts", "message"),
    [(("30",), "is no cap"), (("5 furlongs",), "is no cap"), (("s",), "is no cap"), (("1s", "1min"), "makespan twice")],
)
def test_a_cap_that_cannot_be_read_says_how_to_write_it(amounts, message):
    with pytest.raises(BadInput, match=message):
        read_demands("makespan", amounts, 0.0)


def priced(seed: int = 3):
    """Four sites, a cloud among them; the quickest is the dearest."""
    problem = random_problem(4, 60, seed, resident=0.0)
    rate = {site.name: site.threads / site.variants[0].seconds_per_row for site in problem.sites}
    sites = tuple(
        dataclasses.replace(site, prices=PlacePrices(hour=rate[site.name] ** 2 / 100)) for site in problem.sites
    )
    return dataclasses.replace(problem, sites=sites)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_cap_that_cannot_be_kept_is_refused_with_the_least_that_is_possible(name):
    problem = priced()
    least = costs_of(problem, place(dataclasses.replace(problem, objective=name)).counts)[name]
    place(dataclasses.replace(problem, caps={name: least * 1.01 + 1e-9}))
    with pytest.raises(PlanError, match=r"no placement keeps the cap of .*: the least that is possible is") as raised:
        place(dataclasses.replace(problem, caps={name: least * 0.9 - 1e-9}))
    assert "\n" not in str(raised.value)


def test_caps_that_cannot_be_kept_together_are_refused_with_what_the_others_leave():
    problem = priced()
    soonest = place(problem)
    cheapest = place(dataclasses.replace(problem, objective="money"))
    assert soonest.money > cheapest.money * 1.1
    caps = {"makespan": soonest.seconds * 1.001, "money": cheapest.money * 1.001}
    with pytest.raises(PlanError, match=r"keeps the caps together: within .* money the least that is possible is .* s"):
        place(dataclasses.replace(problem, caps=caps))


# --- what is kept -------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(problems(shards=3, priced=True), st.sampled_from(OBJECTIVES))
def test_a_problem_and_its_solution_come_back_to_the_last_bit(problem, objective):
    problem = dataclasses.replace(problem, objective=objective, caps={"bytes": 1e9 / 3})
    solution = place(dataclasses.replace(problem, caps={}))
    data = to_json(problem, solution)
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert from_json(data) == (problem, solution)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"problem": {}, "solution": {"counts": []}}'])
def test_what_is_no_problem_is_said_to_be_none(data):
    with pytest.raises(CorruptObject, match=r"runs/x/problem\.json is no problem"):
        from_json(data, "runs/x/problem.json")


# --- why ----------------------------------------------------------------------------------------------------


def test_a_plan_is_shown_site_by_site_and_adds_up():
    problem = priced()
    solution = place(problem)
    lines = plan_table.lines(problem, solution)
    assert [line.site for line in lines] == [site.name for site in problem.sites]
    assert sum(line.shards for line in lines) == 60
    edges = [line for line, site in zip(lines, problem.sites, strict=True) if not site.cloud]
    assert sum(line.bytes for line in edges) == pytest.approx(solution.bytes)
    assert min(line.slack for line in lines if line.slack is not None) == pytest.approx(0, abs=1e-9)
    said = " ".join(plan_table.totals(problem, solution))
    assert f"{solution.bytes:,.0f} bytes" in said
    assert "no plan is below" in said


def test_every_site_and_shard_can_be_asked_why():
    problem = priced()
    solution = place(problem)
    for site in problem.sites:
        said = explain.why_site(problem, solution, site.name)
        assert said[0].startswith(site.name)
        assert any("more" in line for line in said)
    origin, site, _ = next(iter(solution.counts))
    assert "the runner-up for one of its shards is" in " ".join(explain.why_shard(problem, solution, origin, site))
    with pytest.raises(UnknownName):
        explain.why_site(problem, solution, "nobody")


def test_one_shard_more_costs_what_the_plan_with_it_costs():
    problem = priced()
    solution = place(problem)
    for site in problem.sites:
        for other in explain.onto(problem, solution, site.name):
            assert other.more >= -1e-9
            assert other.value == pytest.approx(solution.seconds + other.more)


def test_a_shard_that_may_not_leave_is_said_to_stay():
    problem = random_problem(3, 30, 1, resident=1.0)
    solution = place(problem)
    origin = problem.origins[0].site
    assert "may not leave it (residency)" in " ".join(explain.why_shard(problem, solution, origin, origin))


def test_a_cap_that_binds_is_named_and_a_move_that_breaks_it_comes_last():
    problem = priced()
    cheapest = place(dataclasses.replace(problem, objective="money"))
    problem = dataclasses.replace(problem, caps={"money": cheapest.money * 1.001})
    solution = place(problem)
    origin, site, _ = next(iter(solution.counts))
    assert "the cap of" in " ".join(explain.why_site(problem, solution, site))
    broken = [other.breaks for other in explain.runners_up(problem, solution, origin)]
    assert broken == sorted(broken)


# --- what if ------------------------------------------------------------------------------------------------


def test_a_site_like_another_has_a_machine_of_its_own_and_its_speed():
    problem = priced()
    made = additions.added_site(None, None, problem, None, "new-1 like edge-1")
    assert made.name == "new-1"
    assert made.host not in {site.host for site in problem.sites}
    assert made.variants == problem.sites[1].variants
    assert place(explain.with_site(problem, made)).lower_bound <= place(problem).seconds * (1 + 1e-6)


def test_a_file_says_in_what_a_site_differs_from_another(tmp_path):
    problem = priced()
    path = tmp_path / "depot.yaml"
    path.write_text("like: edge-1\nuplink: 5 Mbit/s\ndisk: 2 GB\n")
    made = additions.added_site(None, None, problem, None, str(path))
    assert (made.name, made.up, made.disk_bytes) == ("depot", 625_000, 2e9)
    for text, message in (("uplink: 5 Mbit/s\n", "key `like`: missing"), ("[1", "cannot be read")):
        path.write_text(text)
        with pytest.raises(CatalogError, match=message):
            additions.added_site(None, None, problem, None, str(path))


def made_of(solution):
    """A stored plan, as far as planning again reads it."""
    placements = tuple(
        Placement.model_construct(shard=Shard.model_construct(digest=f"{o}-{i}-{k}", origin=o), site=i, reused=False)
        for (o, i, _), n in solution.counts.items()
        for k in range(n)
    )
    return Plan.model_construct(run_id="r-1", placements=placements)


@pytest.mark.parametrize("sites", [60, 12])
def test_a_change_is_shown_with_what_it_moves_and_of_many_sites_only_those_that_differ(sites, capsys):
    problem = random_problem(sites, 100 * sites, 2)
    solution = solve(problem)
    resident = {origin.site for origin in problem.origins if origin.resident}
    gone = next(i for _, i, _ in solution.counts if i.startswith("edge") and i not in resident)
    after = explain.without(problem, gone)
    again, moves = planning.solve_again(made_of(solution), after)
    assert moves == sum(n for (_, i, _), n in solution.counts.items() if i == gone) > 0
    planning.show_both(made_of(solution), (problem, solution), (after, again), moves)
    said = capsys.readouterr().out
    listed = {word for line in said.splitlines() for word in line.split()[:1]} & {site.name for site in problem.sites}
    assert gone in listed
    assert f"{moves} of {sum(solution.counts.values())} shards would be answered elsewhere" in said
    if sites > planning.MANY:
        assert f"for the other {sites - len(listed)} sites nothing changes" in said
        assert len(listed) < sites / 2
    else:
        assert len(listed) == sites
        assert "nothing changes" not in said


def test_the_picture_is_whole_and_names_every_site():
    problem = priced()
    picture = ElementTree.fromstring(plan_chart.seconds(problem, place(problem)))
    words = " ".join(picture.itertext())
    assert all(site.name in words for site in problem.sites)
    assert "no plan is sooner than" in words


def test_asking_why_loads_neither_prefect_nor_tensorflow():
    code = (
        "import sys, cloudedge.planning; print(*sorted({'prefect', 'tensorflow', 'tf_keras', 's3fs'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_planned_again_after_a_change_is_near_its_bound_too():
    problem = random_problem(300, 100_000, 5)
    assert solve(explain.change(problem, "uplink of edge-17 = 5 Mbit/s")).gap < 0.05
