"""The plan's choices that need no store: the codec for a link, and a placement's edges."""

from __future__ import annotations

import dataclasses

import pytest

from data_catalog.errors import PlanError
from data_catalog.nouns import CodecTrial, Profile, Site
from infra.codec_trials import choose_codec
from infra.placement import RULES, PlaceOrigin, PlaceSite, PlaceVariant, Problem
from infra.placement.programme import predict
from infra.problem import handed_over
from infra.solving import solve

pytestmark = pytest.mark.unit

TRIALS = [
    CodecTrial(codec="none", ratio=1, compress_bytes_per_second=9e9, decompress_bytes_per_second=9e9),
    CodecTrial(codec="fast", ratio=2, compress_bytes_per_second=4e8, decompress_bytes_per_second=9e8),
    CodecTrial(codec="small", ratio=8, compress_bytes_per_second=2e6, decompress_bytes_per_second=9e8),
]


def profile(up: float, down: float) -> Profile:
    return Profile(
        site="a",
        host="h",
        cores=1,
        memory_bytes=1,
        disk_free_bytes=1,
        up_bytes_per_second=up,
        down_bytes_per_second=down,
        latency_seconds=0,
        dispatch_seconds=0,
    )


@pytest.mark.parametrize(
    ("up", "down", "codec"),
    [
        (1e10, 1e10, "none"),  # compressing would be the slowest step
        (1e8, 1e10, "fast"),  # the slower direction counts
        (1e10, 1e8, "fast"),
        (1e5, 1e5, "small"),  # on a slow link only the ratio counts
    ],
)
def test_the_codec_whose_slowest_step_is_fastest_is_chosen(up, down, codec):
    here = (Site(name="a", tier="edge"), profile(up, down))
    assert choose_codec(TRIALS, here, here) == codec
    assert choose_codec(TRIALS[::-1], here, here) == codec


def test_the_links_and_cores_of_both_ends_count():
    slow, quick = profile(1e5, 1e10), profile(1e10, 1e10)
    one, many = Site(name="a", tier="edge"), Site(name="b", tier="cloud", threads=4)
    assert choose_codec(TRIALS, (one, slow), (many, quick)) == "small"
    assert choose_codec(TRIALS, (many, quick), (one, slow)) == "none"
    at_rate = profile(2e6, 2e6).model_copy(update={"cores": 4})
    assert choose_codec(TRIALS, (one, at_rate), (one, at_rate)) == "fast"
    assert choose_codec(TRIALS, (many, at_rate), (many, at_rate)) == "small", "four cores compress four shards at once"


def test_who_answers_meanwhile_packs_with_what_takes_little_of_its_time():
    apart = (Site(name="a", tier="edge", dispatch="mailbox"), profile(3e6, 3e6))
    here = (Site(name="a", tier="edge"), profile(3e6, 3e6))
    heavy = [*TRIALS, TRIALS[1].model_copy(update={"codec": "heavy", "ratio": 2.2, "compress_bytes_per_second": 6.7e6})]
    assert choose_codec(heavy, here, here) == "heavy"
    assert choose_codec(heavy, apart, here) == "fast"


def test_a_shard_is_not_packed_again_for_little():
    here = (Site(name="a", tier="edge"), profile(1e8, 1e8))
    similar = [*TRIALS, TRIALS[1].model_copy(update={"codec": "similar", "ratio": 1.9})]
    assert choose_codec(similar, here, here) == "fast"
    assert choose_codec(similar, here, here, {"similar", "none", "gone"}) == "similar"
    assert choose_codec(similar, here, here, {"none"}) == "fast"
    assert choose_codec(similar, here, here, {"none"}, kept=True) == "none"


def test_no_shard_is_packed_with_what_its_reader_has_not_installed():
    here = (Site(name="a", tier="edge"), profile(1e5, 1e5))
    plain = (here[0], here[1].model_copy(update={"missing_codecs": ("small", "none")}))
    assert choose_codec(TRIALS, here, here, {"small"}) == "small"
    assert choose_codec(TRIALS, here, plain, {"small"}) == "fast"
    assert choose_codec(TRIALS, plain, here, {"small"}) == "small", "who sends has measured what it has"


def site(name: str, *, seconds_per_row=1e-3, startup_seconds=0.0, escalation=0.0, **changes) -> PlaceSite:
    plain = PlaceSite(
        name=name,
        cloud=name == "cloud",
        host=name,
        host_cores=4,
        threads=1,
        variants=(
            PlaceVariant(
                name="v", seconds_per_row=seconds_per_row, startup_seconds=startup_seconds, escalation=escalation
            ),
        ),
        dispatch_seconds=0,
        latency_seconds=0,
        up=1e12,
        down=1e12,
    )
    return dataclasses.replace(plain, **changes)


def origin(name: str, **changes) -> PlaceOrigin:
    return dataclasses.replace(PlaceOrigin(site=name, shards=10, rows=100, bytes=1e6, resident=False), **changes)


def place(sites, origins, record_bytes=100.0):
    return RULES.get("programme").place(Problem(sites=tuple(sites), origins=tuple(origins), record_bytes=record_bytes))


def test_residents_whose_site_is_not_in_the_run_are_named_with_the_remedy():
    with pytest.raises(
        PlanError, match="the shards of b must stay there, but b is not among the sites; add it with --site"
    ):
        place([site("a"), site("cloud")], [origin("a"), origin("b", resident=True)])


def test_escalation_needs_a_cloud():
    with pytest.raises(PlanError, match="needs a cloud site"):
        place([site("a", escalation=0.1)], [origin("a")])
    assert place([site("a")], [origin("a")]).counts == {("a", "a", "v"): 10}


def test_work_is_shared_in_proportion_to_speed():
    solution = place([site("a"), site("b", seconds_per_row=4e-3)], [origin("a")])
    assert solution.counts == {("a", "a", "v"): 8, ("a", "b", "v"): 2}
    assert solution.seconds == pytest.approx(0.8)


def test_a_slow_link_keeps_shards_at_home():
    assert place([site("a", up=1e5), site("b")], [origin("a")]).counts == {("a", "a", "v"): 10}
    assert place([site("a"), site("b", down=1e5)], [origin("a")]).counts == {("a", "a", "v"): 10}


def test_a_start_that_takes_longer_than_the_work_is_not_worth_it():
    assert place([site("a"), site("b", startup_seconds=5)], [origin("a")]).counts == {("a", "a", "v"): 10}


def test_sites_of_one_machine_share_its_cores():
    """Two sites on one core are no faster than one, so nothing moves."""
    together = [site("a", host="h", host_cores=1), site("b", host="h", host_cores=1)]
    assert place(together, [origin("a")]).counts == {("a", "a", "v"): 10}


def test_all_in_the_cloud_where_that_saves_the_second_part():
    sites = [site("a", seconds_per_row=2e-3, escalation=0.5), site("cloud", dispatch_seconds=1)]
    solution = place(sites, [origin("a")])
    assert solution.counts == {("a", "cloud", "v"): 10}
    assert solution.seconds == pytest.approx(2)


@pytest.mark.parametrize(
    ("counts", "seconds"),
    [
        ({("a", "a", "v"): 10}, 1 + 0.5),  # the work, then half the rows again in the cloud
        ({("a", "cloud", "v"): 10}, 1.0),
        ({("a", "a", "v"): 5, ("a", "b", "v"): 5}, 0.5 + 0.5),
        ({("a", "b", "v"): 10}, 5 + 0.5),  # ten million bytes up a's link
    ],
)
def test_a_prediction_counts_the_work_the_links_and_the_second_part(counts, seconds):
    up = 2e6 if counts == {("a", "b", "v"): 10} else 1e12
    sites = (site("a", up=up, escalation=0.5), site("b", escalation=0.5), site("cloud"))
    problem = Problem(sites=sites, origins=(origin("a"),), record_bytes=1)
    assert predict(problem, counts)[0] == pytest.approx(seconds)


def test_a_site_has_one_variant_also_where_only_both_would_do():
    """A floor that the quick one misses, and the good one passes alone: a mixture is cheaper, and not to be had."""
    quick = PlaceVariant(name="quick", seconds_per_row=1e-3, startup_seconds=0, accuracy=0.90)
    good = PlaceVariant(name="good", seconds_per_row=4e-3, startup_seconds=0, accuracy=0.97)
    problem = Problem(
        sites=(site("a", variants=(quick, good)),), origins=(origin("a", resident=True),), record_bytes=1, accuracy=0.93
    )
    mixed, one = RULES.get("programme").place(problem), solve(problem)
    assert len(mixed.counts) == 2
    assert one.counts == {("a", "a", "good"): 10}
    assert one.lower_bound == pytest.approx(mixed.lower_bound)
    assert one.gap == pytest.approx(one.seconds / mixed.lower_bound - 1)
    assert solve(dataclasses.replace(problem, accuracy=0.0)).counts == {("a", "a", "quick"): 10}
    with pytest.raises(PlanError, match="no variant reaches the accuracy"):
        solve(dataclasses.replace(problem, accuracy=0.98))


def test_an_edge_sends_nothing_before_it_was_told_what():
    sites, origins = (
        (site("a", up=2e6, dispatch_seconds=3.0), site("b"), site("cloud", dispatch_seconds=9.0)),
        (origin("a"),),
    )
    places = handed_over(sites, origins)
    assert [place.up_busy_seconds for place in places] == [3.0, 0.0, 0.0]
    problem = Problem(sites=places, origins=origins, record_bytes=1)
    assert predict(problem, {("a", "b", "v"): 10})[0] == pytest.approx(3 + 5)
    assert predict(problem, {("a", "a", "v"): 10})[0] == pytest.approx(3 + 1)
