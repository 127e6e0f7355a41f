"""What every placement rule must do; see `infra.placement` for the contract.

Small problems are judged by trying every placement: the rule must find one as good as the best. What a placement
costs is `infra.placement.programme.predict`, and here, for the rows that must hold, reckoned once more from the
definitions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_catalog.errors import PlanError
from infra.placement import OBJECTIVES, Objective, PlaceOrigin, PlacePrices, PlaceSite, PlaceVariant, Problem
from infra.placement.programme import costs_of, predict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.placement import Rule, Solution

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
CLOSE = 1e-5  # share by which an optimum may be missed: what the solver leaves, and what breaks ties
SECONDS = st.sampled_from([0.0, 0.01, 0.1, 1.0])
LINK = st.sampled_from([1e4, 1e6, 1e8, 1e12])
Counts = dict[tuple[str, str, str], int]


@st.composite
def problems(draw: st.DrawFn, *, shards: int = 4, priced: bool = False) -> Problem:
    """Two edges and a cloud, on one to three hosts; one or two variants at an edge; links of all kinds."""
    names = ("a", "b", "cloud")
    cores = {host: draw(st.sampled_from([1, 2, 8])) for host in ("h", *names)}
    sites = []
    for name in names:
        host = draw(st.sampled_from(["h", name]))
        variants = tuple(
            PlaceVariant(
                name=f"v{v}",
                seconds_per_row=draw(st.sampled_from([1e-5, 1e-4, 3e-4, 1e-3, 1e-2])),
                startup_seconds=draw(SECONDS),
                escalation=0.0 if name == "cloud" else draw(st.sampled_from([0.0, 0.05, 0.5])),
                accuracy=draw(st.sampled_from([0.9, 0.95, 0.99])),
                bytes=1000,
            )
            for v in range(draw(st.sampled_from([1, 2])) if name == "a" else 1)
        )
        price = st.sampled_from([0.0, 0.5, 3600.0]) if priced else st.just(0.0)
        prices = PlacePrices(hour=draw(price), row=draw(price) / 1e4, gb_up=draw(price), gb_down=draw(price))
        sites.append(
            PlaceSite(
                name=name, cloud=name == "cloud", host=host, host_cores=cores[host],
                threads=draw(st.sampled_from([1, 2, 4])), variants=variants, dispatch_seconds=draw(SECONDS),
                latency_seconds=draw(SECONDS), up=draw(LINK), down=draw(LINK),
                disk_bytes=draw(st.sampled_from([math.inf, math.inf, 2.5e6])), prices=prices,
            )
        )  # fmt: skip
    origins = [
        PlaceOrigin(
            site=name,
            shards=draw(st.integers(1, shards)),
            rows=draw(st.sampled_from([1.0, 100.0, 1000.0])),
            bytes=draw(st.sampled_from([1e3, 1e6])),
            resident=draw(st.booleans()),
            pack_seconds=draw(st.sampled_from([0.0, 0.0, 0.05, 1.0])),
        )
        for name in draw(st.sampled_from([("a",), ("a", "b")]))
    ]
    record_bytes = draw(st.sampled_from([10.0, 1000.0]))
    answers = draw(st.sampled_from([0.0, 1e4]))
    return Problem(
        sites=tuple(sites), origins=tuple(origins), record_bytes=record_bytes, result_bytes=answers,
        result_row_bytes=answers / 1000,
    )  # fmt: skip


def every_placement(problem: Problem) -> Iterator[Counts]:
    """All counts that place every shard and keep residents at home."""
    options = [(site.name, variant.name) for site in problem.sites for variant in site.variants]
    ways = []
    for origin in problem.origins:
        able = [(i, v) for i, v in options if not origin.resident or i == origin.site]
        ways.append(
            [
                {(origin.site, *option): count for option, count in zip(able, counts, strict=True) if count}
                for counts in _splits(origin.shards, len(able))
            ]
        )
    for parts in itertools.product(*ways):
        yield {pair: count for part in parts for pair, count in part.items()}


def _splits(shards: int, ways: int) -> Iterator[tuple[int, ...]]:
    if ways == 1:
        yield (shards,)
        return
    for first in range(shards + 1):
        for rest in _splits(shards - first, ways - 1):
            yield (first, *rest)


def holds(problem: Problem, counts: Counts, slack: float = 2e-6) -> bool:
    """Whether disks, floor and caps hold up to a share of themselves, reckoned from the definitions."""
    born, rows, right = {o.site: o for o in problem.origins}, 0.0, 0.0
    for site in problem.sites:
        guests = sum(n * born[o].bytes for (o, i, _), n in counts.items() if i == site.name != o)
        if guests and guests > (site.disk_bytes - max(v.bytes for v in site.variants)) * (1 + slack):
            return False
        for variant in site.variants:
            mine = sum(n * born[o].rows for (o, i, v), n in counts.items() if (i, v) == (site.name, variant.name))
            rows, right = rows + mine, right + mine * variant.accuracy
    costs = costs_of(problem, counts)
    capped = all(costs[name] <= cap * (1 + slack) for name, cap in problem.caps.items())
    return capped and right >= problem.accuracy * rows * (1 - slack) - 1e-9


def require_sound(problem: Problem, solution: Solution) -> None:
    """Every shard is placed once, where it may be; every row holds; what is said of the placement is so."""
    offered = {(site.name, variant.name) for site in problem.sites for variant in site.variants}
    assert all(type(count) is int and count > 0 for count in solution.counts.values())
    assert {(i, v) for _, i, v in solution.counts} <= offered
    for origin in problem.origins:
        mine = {i: n for (o, i, _), n in solution.counts.items() if o == origin.site}
        assert sum(n for (o, _, _), n in solution.counts.items() if o == origin.site) == origin.shards
        assert not origin.resident or set(mine) == {origin.site}
    assert {o for o, _, _ in solution.counts} == {origin.site for origin in problem.origins}
    assert holds(problem, solution.counts)
    assert set(solution.reasons) == {site.name for site in problem.sites}
    assert all(solution.reasons.values())
    seconds, by_site = predict(problem, solution.counts)
    assert solution.seconds == pytest.approx(seconds)
    assert solution.site_seconds == pytest.approx(by_site)
    require_honest_gap(problem, solution)
    assert 0 < solution.balance <= 1 + 1e-9


def require_honest_gap(problem: Problem, solution: Solution) -> None:
    """The bound is not above the objective, and the gap is what lies between; infinite where no bound is known."""
    found, bound = value(problem, solution), solution.lower_bound
    assert 0 <= bound <= found * (1 + 1e-9) + 1e-12
    if bound > 0:
        assert solution.gap == pytest.approx(found / bound - 1, abs=1e-6)
    elif found > 1e-9:
        assert math.isinf(solution.gap), "without a bound nothing is known of the gap"


def value(problem: Problem, solution: Solution) -> float:
    """Of the objective."""
    return {"makespan": solution.seconds, "bytes": solution.bytes, "money": solution.money}[problem.objective]


def check_no_row_is_broken(rule: Rule) -> None:
    """Shards add up, residents stay, nothing is invented, disks hold; seconds, bound and reasons are as they should be."""

    @FEW
    @given(problems(shards=9))
    def sound(problem: Problem) -> None:
        require_sound(problem, rule.place(problem))

    sound()


def check_it_is_deterministic_and_pure(rule: Rule) -> None:
    """The same problem gets the same answer, whatever was asked in between, and is left as it was."""

    @FEW
    @given(problems(), problems())
    def same(problem: Problem, other: Problem) -> None:
        before = dataclasses.replace(problem)
        first = rule.place(problem)
        rule.place(other)
        assert rule.place(problem) == first
        assert problem == before

    same()


def check_no_placement_is_better(rule: Rule) -> None:
    """Of all placements of a small problem none is sooner, and the bound is below them all."""

    @FEW
    @given(problems())
    @example(_rather_all_in_the_cloud())
    @example(_slow_links())
    def best(problem: Problem) -> None:
        _compare(rule, problem)

    best()


def check_no_placement_is_better_by_another_objective(rule: Rule) -> None:
    """The same for bytes and money, under caps on the others, with a floor of accuracy."""

    @FEW
    @given(problems(shards=3, priced=True), st.sampled_from(OBJECTIVES), st.sampled_from([0.0, 0.95]), st.data())
    def best(problem: Problem, objective: Objective, floor: float, data: st.DataObject) -> None:
        caps = {}
        if data.draw(st.booleans()):
            rival = data.draw(st.sampled_from([name for name in OBJECTIVES if name != objective]))
            found = sorted(costs_of(problem, counts)[rival] for counts in every_placement(problem))
            caps = {rival: data.draw(st.sampled_from([found[0] * 0.9, found[len(found) // 3], found[-1]]))}
        _compare(rule, dataclasses.replace(problem, objective=objective, caps=caps, accuracy=floor))

    best()


def _compare(rule: Rule, problem: Problem) -> None:
    able = [counts for counts in every_placement(problem) if holds(problem, counts, 0.0)]
    if not able:
        if not any(holds(problem, counts) for counts in every_placement(problem)):  # not even by a hair's breadth
            with pytest.raises(PlanError):
                rule.place(problem)
        return
    least, counts = min(((costs_of(problem, c)[problem.objective], c) for c in able), key=lambda pair: pair[0])
    solution = rule.place(problem)
    require_sound(problem, solution)
    found = value(problem, solution)
    assert found <= least * (1 + CLOSE) + 1e-6, f"{found} where {counts} takes {least}"
    assert solution.lower_bound <= least * (1 + CLOSE) + 1e-9


def check_the_larger_the_problem_the_less_rounding_matters(rule: Rule) -> None:
    """With thousands of shards the answer lies within a thousandth of sharing in proportion to speed."""
    sites = tuple(
        _site(name, cloud=False, seconds_per_row=speed) for name, speed in (("a", 1e-3), ("b", 2e-3), ("c", 4e-3))
    )
    origin = PlaceOrigin(site="a", shards=7000, rows=10, bytes=1, resident=False)
    solution = rule.place(Problem(sites=sites, origins=(origin,), record_bytes=1))
    assert solution.seconds == pytest.approx(7000 * 0.01 * 4 / 7, rel=1e-3)


def check_more_speed_or_bandwidth_is_never_worse(rule: Rule) -> None:
    """A site that is twice as fast, or a link twice as wide, does not lengthen the best plan."""

    @FEW
    @given(problems(), st.sampled_from(["a", "b", "cloud"]), st.sampled_from(["speed", "up", "down", "startup"]))
    def no_worse(problem: Problem, name: str, what: str) -> None:
        def improved(site: PlaceSite) -> PlaceSite:
            if site.name != name:
                return site
            if what in ("up", "down"):
                return dataclasses.replace(site, **{what: 2 * getattr(site, what)})
            key = "seconds_per_row" if what == "speed" else "startup_seconds"
            faster = tuple(dataclasses.replace(v, **{key: getattr(v, key) / 2}) for v in site.variants)
            return dataclasses.replace(site, variants=faster)

        more = dataclasses.replace(problem, sites=tuple(improved(site) for site in problem.sites))
        assert rule.place(more).seconds <= rule.place(problem).seconds * (1 + CLOSE) + 1e-6

    no_worse()


def check_names_do_not_matter(rule: Rule) -> None:
    """Sites of other names get the same shares."""

    @FEW
    @given(problems(shards=9))
    def renamed(problem: Problem) -> None:
        new = {site.name: f"{9 - k}-{site.name}" for k, site in enumerate(problem.sites)}
        other = dataclasses.replace(
            problem,
            sites=tuple(dataclasses.replace(site, name=new[site.name]) for site in problem.sites),
            origins=tuple(dataclasses.replace(origin, site=new[origin.site]) for origin in problem.origins),
        )
        found, again = rule.place(problem), rule.place(other)
        assert again.counts == {(new[o], new[i], v): n for (o, i, v), n in found.counts.items()}
        assert again.seconds == pytest.approx(found.seconds)

    renamed()


def check_what_cannot_be_placed_is_refused(rule: Rule) -> None:
    """No site, no cloud to escalate to, residents whose site is missing, a floor too high: PlanError says what to add."""
    edge, cloud = _site("a", cloud=False, escalation=0.1), _site("cloud", cloud=True)
    home = PlaceOrigin(site="a", shards=3, rows=10, bytes=10, resident=True)
    away = dataclasses.replace(home, site="elsewhere")
    for sites, origins, floor, message in (
        ((), (home,), 0.0, "no site"),
        ((edge,), (home,), 0.0, "cloud"),
        ((edge, cloud), (home, away), 0.0, "elsewhere"),
        ((edge, cloud), (home,), 1.5, "accuracy"),
        ((dataclasses.replace(edge, memory_bytes=-1), cloud), (home,), 0.0, "memory"),
    ):
        with pytest.raises(PlanError, match=message):
            rule.place(Problem(sites=sites, origins=origins, record_bytes=1, accuracy=floor))


def check_nothing_to_place_is_no_error(rule: Rule) -> None:
    """Without shards there is a plan, of no seconds and with a reason for every site."""
    solution = rule.place(Problem(sites=(_site("a", cloud=False),), origins=(), record_bytes=1))
    assert solution.counts == {}
    assert solution.seconds == 0
    assert set(solution.reasons) == {"a"}


def check_shards_born_outside_the_run_are_placed(rule: Rule) -> None:
    """An origin that is not among the sites can give its shards to those that are."""
    origin = PlaceOrigin(site="elsewhere", shards=5, rows=10, bytes=10, resident=False)
    sites = (_site("a", cloud=False, escalation=0.1), _site("cloud", cloud=True))
    solution = rule.place(Problem(sites=sites, origins=(origin,), record_bytes=1))
    assert sum(solution.counts.values()) == 5


def _site(name: str, *, cloud: bool, seconds_per_row: float = 1e-4, escalation: float = 0.0) -> PlaceSite:
    variant = PlaceVariant(name="v", seconds_per_row=seconds_per_row, startup_seconds=0, escalation=escalation)
    return PlaceSite(
        name=name, cloud=cloud, host=name, host_cores=4, threads=1, variants=(variant,),
        dispatch_seconds=0, latency_seconds=0, up=1e12, down=1e12,
    )  # fmt: skip


def _rather_all_in_the_cloud() -> Problem:
    """Using no edge saves the second part altogether, which is worth more than any sharing."""
    edge = _site("a", cloud=False, seconds_per_row=2e-4, escalation=0.05)
    cloud = dataclasses.replace(_site("cloud", cloud=True), dispatch_seconds=1.0)
    origin = PlaceOrigin(site="a", shards=5, rows=1000, bytes=10, resident=False)
    return Problem(sites=(edge, cloud), origins=(origin,), record_bytes=1)


def _slow_links() -> Problem:
    """Moving a shard takes longer than answering it."""
    sites = tuple(
        dataclasses.replace(_site(name, cloud=name == "cloud", escalation=0.05), up=1e4, down=1e4)
        for name in ("a", "b", "cloud")
    )
    origin = PlaceOrigin(site="a", shards=4, rows=1000, bytes=1e6, resident=False)
    return Problem(sites=sites, origins=(origin,), record_bytes=100)


CHECKS = (
    check_no_row_is_broken,
    check_it_is_deterministic_and_pure,
    check_no_placement_is_better,
    check_no_placement_is_better_by_another_objective,
    check_the_larger_the_problem_the_less_rounding_matters,
    check_more_speed_or_bandwidth_is_never_worse,
    check_names_do_not_matter,
    check_what_cannot_be_placed_is_refused,
    check_nothing_to_place_is_no_error,
    check_shards_born_outside_the_run_are_placed,
)
