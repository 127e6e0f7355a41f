"""What every placement rule must do; see `infra.placement` for the contract.

Optimality is judged by trying every placement of small problems with `infra.placement.makespan.predict`. A
rule may solve for fractions of shards and round, so it may be worse than the best by what rounding can cost,
which `rounding_seconds` bounds:

- of each origin a site gets less than one whole shard more than its fraction. So the work of one shard of
  every origin bounds what its threads, and the cores of its host, can be late by; their bytes, and those of
  the rows escalated from them, what its link can be late by. The first part of the time is the maximum of
  these, so it is late by at most the largest of them.
- all clouds together lose less than one shard of every origin a cloud, hence the edges gain no more, and the
  cloud answers their escalated rows in the second part.
- a cloud whose fraction rounds to nothing no longer starts during the first part, so the second part pays for
  its start.

To that comes the solver's own gap, `SOLVER_GAP` of the optimum.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_catalog.errors import PlanError
from infra.placement import PlaceOrigin, PlaceSite, Problem
from infra.placement.makespan import predict, shard_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.placement import Rule

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SOLVER_GAP = 2e-4  # twice the relative gap at which HiGHS stops, for what breaks ties
SECONDS = st.sampled_from([0.0, 0.01, 0.1, 1.0])
LINK = st.sampled_from([1e4, 1e6, 1e8, 1e12])


@st.composite
def problems(draw: st.DrawFn, *, cloud: bool = True) -> Problem:
    """Two edges and a cloud, on one to three hosts; one or two origins of few shards; links of all kinds."""
    names = ("a", "b", "cloud") if cloud else ("a", "b")
    cores = {host: draw(st.sampled_from([1, 2, 8])) for host in ("h", *names)}
    sites = []
    for name in names:
        host = draw(st.sampled_from(["h", name]))
        sites.append(
            PlaceSite(
                name=name,
                cloud=name == "cloud",
                host=host,
                host_cores=cores[host],
                threads=draw(st.sampled_from([1, 2, 4])),
                seconds_per_row=draw(st.sampled_from([1e-5, 1e-4, 3e-4, 1e-3, 1e-2])),
                startup_seconds=draw(SECONDS),
                dispatch_seconds=draw(SECONDS),
                latency_seconds=draw(SECONDS),
                up=draw(LINK),
                down=draw(LINK),
            )
        )
    origins = [
        PlaceOrigin(
            site=name,
            shards=draw(st.integers(1, 6)),
            rows=draw(st.sampled_from([1.0, 100.0, 1000.0])),
            bytes=draw(st.sampled_from([1e3, 1e6])),
            resident=draw(st.booleans()),
        )
        for name in draw(st.sampled_from([("a",), ("a", "b")]))
    ]
    return Problem(
        sites=tuple(sites),
        origins=tuple(origins),
        escalation=draw(st.sampled_from([0.0, 0.05, 0.5])) if cloud else 0.0,
        record_bytes=draw(st.sampled_from([10.0, 1000.0])),
    )


def every_placement(problem: Problem) -> Iterator[dict[tuple[str, str], int]]:
    """All counts that place every shard and keep residents at home."""
    ways = []
    for origin in problem.origins:
        names = [site.name for site in problem.sites if not origin.resident or site.name == origin.site]
        ways.append(
            [
                {(origin.site, name): count for name, count in zip(names, counts, strict=True) if count}
                for counts in _splits(origin.shards, len(names))
            ]
        )
    for parts in itertools.product(*ways):
        yield {pair: count for part in parts for pair, count in part.items()}


def _splits(shards: int, sites: int) -> Iterator[tuple[int, ...]]:
    if sites == 1:
        yield (shards,)
        return
    for first in range(shards + 1):
        for rest in _splits(shards - first, sites - 1):
            yield (first, *rest)


def rounding_seconds(problem: Problem) -> float:
    """How much later than its fractional optimum a rounded placement may end; the module says why."""
    rows = sum(origin.rows for origin in problem.origins)
    moved = sum(origin.bytes for origin in problem.origins)
    late: list[float] = [0.0]
    hosts: dict[str, float] = defaultdict(float)
    for site in problem.sites:
        work = sum(shard_seconds(origin, site) for origin in problem.origins)
        hosts[site.host] += work / site.host_cores
        sent = problem.escalation * rows * problem.record_bytes
        late += [work / site.threads, moved / site.down, (moved + sent) / site.up]
    second = 0.0
    clouds = [site for site in problem.sites if site.cloud]
    if clouds and problem.escalation > 0:
        again = problem.escalation * rows * clouds[0].seconds_per_row / clouds[0].threads
        second = len(clouds) * again + clouds[0].startup_seconds
    return max([*late, *hosts.values()]) + second


def check_every_shard_is_placed_once_where_it_may_be(rule: Rule) -> None:
    """Counts add up for every origin, residents stay, and no site is invented."""

    @FEW
    @given(problems())
    def placed(problem: Problem) -> None:
        solution = rule.place(problem)
        names = {site.name for site in problem.sites}
        assert all(type(count) is int and count > 0 for count in solution.counts.values())
        assert {i for _, i in solution.counts} <= names
        for origin in problem.origins:
            mine = {i: count for (o, i), count in solution.counts.items() if o == origin.site}
            assert sum(mine.values()) == origin.shards
            assert not origin.resident or set(mine) == {origin.site}
        assert {o for o, _ in solution.counts} == {origin.site for origin in problem.origins}

    placed()


def check_it_is_explained(rule: Rule) -> None:
    """Every site has a reason, and the seconds are those that the counts should take."""

    @FEW
    @given(problems())
    def explained(problem: Problem) -> None:
        solution = rule.place(problem)
        assert set(solution.reasons) == {site.name for site in problem.sites}
        assert all(solution.reasons.values())
        seconds, by_site = predict(problem, solution.counts)
        assert solution.seconds == pytest.approx(seconds)
        assert solution.site_seconds == pytest.approx(by_site)

    explained()


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


def check_no_placement_is_better_by_more_than_rounding(rule: Rule) -> None:
    """Of all placements, all at the origins and all in the cloud among them, none is much sooner."""

    @FEW
    @given(problems())
    @example(_rather_all_in_the_cloud())
    @example(_slow_links())
    def best(problem: Problem) -> None:
        found = rule.place(problem).seconds
        soonest, counts = min(
            ((predict(problem, counts)[0], counts) for counts in every_placement(problem)),
            key=lambda pair: pair[0],
        )
        allowed = soonest * (1 + SOLVER_GAP) + rounding_seconds(problem) + 1e-6
        assert found <= allowed, f"{found} s where {counts} takes {soonest} s"

    best()


def check_the_larger_the_problem_the_less_rounding_matters(rule: Rule) -> None:
    """With thousands of shards the answer lies within a thousandth of sharing in proportion to speed."""
    sites = tuple(
        _site(name, cloud=False, seconds_per_row=speed) for name, speed in (("a", 1e-3), ("b", 2e-3), ("c", 4e-3))
    )
    origin = PlaceOrigin(site="a", shards=7000, rows=10, bytes=1, resident=False)
    solution = rule.place(Problem(sites=sites, origins=(origin,), escalation=0.0, record_bytes=1))
    assert solution.seconds == pytest.approx(7000 * 0.01 * 4 / 7, rel=1e-3)


def check_what_cannot_be_placed_is_refused(rule: Rule) -> None:
    """No site, no cloud to escalate to, residents whose site is missing: PlanError that says what to add."""
    edge, cloud = _site("a", cloud=False), _site("cloud", cloud=True)
    home = PlaceOrigin(site="a", shards=3, rows=10, bytes=10, resident=True)
    away = dataclasses.replace(home, site="elsewhere")
    for sites, origins, escalation, message in (
        ((), (home,), 0.0, "no site"),
        ((edge,), (home,), 0.1, "cloud"),
        ((edge, cloud), (home, away), 0.1, "elsewhere"),
    ):
        with pytest.raises(PlanError, match=message):
            rule.place(Problem(sites=sites, origins=origins, escalation=escalation, record_bytes=1))


def check_nothing_to_place_is_no_error(rule: Rule) -> None:
    """Without shards there is a plan, of no seconds and with a reason for every site."""
    solution = rule.place(Problem(sites=(_site("a", cloud=False),), origins=(), escalation=0.0, record_bytes=1))
    assert solution.counts == {}
    assert solution.seconds == 0
    assert set(solution.reasons) == {"a"}


def check_shards_born_outside_the_run_are_placed(rule: Rule) -> None:
    """An origin that is not among the sites can give its shards to those that are."""
    origin = PlaceOrigin(site="elsewhere", shards=5, rows=10, bytes=10, resident=False)
    sites = (_site("a", cloud=False), _site("cloud", cloud=True))
    solution = rule.place(Problem(sites=sites, origins=(origin,), escalation=0.1, record_bytes=1))
    assert sum(solution.counts.values()) == 5


def _site(name: str, *, cloud: bool, seconds_per_row: float = 1e-4) -> PlaceSite:
    return PlaceSite(
        name=name, cloud=cloud, host=name, host_cores=4, threads=1, seconds_per_row=seconds_per_row,
        startup_seconds=0, dispatch_seconds=0, latency_seconds=0, up=1e12, down=1e12,
    )  # fmt: skip


def _rather_all_in_the_cloud() -> Problem:
    """Using no edge saves the second part altogether, which is worth more than any sharing."""
    sites = (_site("a", cloud=False), dataclasses.replace(_site("cloud", cloud=True), dispatch_seconds=1.0))
    origin = PlaceOrigin(site="a", shards=5, rows=1000, bytes=10, resident=False)
    slow = dataclasses.replace(sites[0], seconds_per_row=2e-4)
    return Problem(sites=(slow, sites[1]), origins=(origin,), escalation=0.05, record_bytes=1)


def _slow_links() -> Problem:
    """Moving a shard takes longer than answering it."""
    sites = tuple(
        dataclasses.replace(_site(name, cloud=name == "cloud"), up=1e4, down=1e4) for name in ("a", "b", "cloud")
    )
    origin = PlaceOrigin(site="a", shards=6, rows=1000, bytes=1e6, resident=False)
    return Problem(sites=sites, origins=(origin,), escalation=0.05, record_bytes=100)


CHECKS = (
    check_every_shard_is_placed_once_where_it_may_be,
    check_it_is_explained,
    check_it_is_deterministic_and_pure,
    check_no_placement_is_better_by_more_than_rounding,
    check_the_larger_the_problem_the_less_rounding_matters,
    check_what_cannot_be_placed_is_refused,
    check_nothing_to_place_is_no_error,
    check_shards_born_outside_the_run_are_placed,
)
