"""Profiles that learn: means and spreads, outliers, what a receipt shows and what it does not, and how it is all shown."""

from __future__ import annotations

import hashlib
import math
import shutil
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.nouns import Profile, Receipt, Site, Span, VariantCard, VariantSpeed
from data_catalog.orders import Answered, Sending
from flows import _dispatching
from infra import profiles, sites
from infra.problem import place_site
from infra.profiles import CLIP, LEAST_SPREAD, WEIGHT, observe, refine
from infra.report import profile_chart
from infra.runtimes import RUNTIMES
from tasks import probe_site, refine_profiles
from tests.stores import FolderStore

pytestmark = pytest.mark.unit


def speed(rate: float = 1000.0, **more) -> VariantSpeed:
    return VariantSpeed(rows_per_second=rate, batch=32, startup_seconds=0.1, runtime="litert", **more)


def profile(site: str = "edge-1", **more) -> Profile:
    plain = {
        "site": site, "host": "h", "cores": 2, "memory_bytes": 4e9, "disk_free_bytes": 1e10, "up_bytes_per_second": 1e6,
        "down_bytes_per_second": 2e6, "latency_seconds": 0.01, "dispatch_seconds": 0.0, "variants": {"v": speed()},
    }  # fmt: skip
    return Profile.model_validate(plain | more)


def receipt(site: str = "edge-1", *, start: float = 0.0, took: float = 2.0, **more) -> Receipt:
    """A site that computed ten shards of a hundred rows for so many seconds; its shards lay with it."""
    plain = {
        "run_id": "r", "order_id": site, "site": site, "tier": "edge", "variant": "v", "started": start, "finished": start + took,
        "shards": 10, "rows": 1000, "computed_results": 10, "reused_results": 0, "escalated": (), "seconds": {"infer": took},
        "startup_seconds": 0.1, "bytes_in": 10_000_000, "bytes_out": 25_000, "wan_in": 0, "wan_out": 25_000,
        "spans": (Span(stage="infer", site=site, start=start, end=start + took),),
    }  # fmt: skip
    return Receipt.model_validate(plain | more)


def learnt(known: Profile, *receipts: Receipt) -> Profile:
    return refine(known, receipts, receipts)


# --- means and spreads ----------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.9, 1.1), min_size=1, max_size=30))
def test_mean_and_variance_are_those_of_the_weights(values):
    """Values so near one another that none is clipped; the weights are written out."""
    known = profile()
    for value in values:
        known = observe(known, 1.0, dispatch_seconds=value)
    weights = np.array([1.0])
    for count in range(1, len(values)):
        newest = max(WEIGHT, 1 / (count + 1))
        weights = np.append(weights * (1 - newest), newest)
    mean = float(weights @ values)
    assert known.dispatch_seconds == pytest.approx(mean)
    spread = known.spreads["dispatch_seconds"]
    assert spread.count == len(values)
    assert spread.variance == pytest.approx(float(weights @ (np.array(values) - mean) ** 2), abs=1e-12)


@given(st.floats(0, 1e6), st.floats(0.01, 100))
def test_one_bad_run_does_not_ruin_a_profile(bad, rate):
    known = profile(up_bytes_per_second=rate)
    for _ in range(4):
        known = observe(known, 1.0, up_bytes_per_second=rate)
    after = observe(known, 2.0, up_bytes_per_second=bad * rate)
    assert after.up_bytes_per_second > 0
    assert abs(after.up_bytes_per_second / rate - 1) <= WEIGHT * CLIP * LEAST_SPREAD * (1 + 1e-9)


@pytest.mark.parametrize("factor", [0.1, 0.5, 3, 20])
def test_a_lasting_change_is_learnt(factor):
    known = profile()
    for _ in range(10):
        known = observe(known, 1.0, up_bytes_per_second=1e6)
    for _ in range(15):
        known = observe(known, 2.0, up_bytes_per_second=factor * 1e6)
    assert known.up_bytes_per_second == pytest.approx(factor * 1e6, rel=0.1)


def test_a_profile_of_before_reads_and_its_values_count_once():
    old = profile().model_dump(exclude={"spreads"})
    del old["variants"]["v"]["spreads"], old["variants"]["v"]["probed_rows_per_second"]
    known = observe(Profile.model_validate(old), 1.0, up_bytes_per_second=3e6)
    assert known.up_bytes_per_second == 2e6
    assert known.spreads["up_bytes_per_second"].count == 2


def test_what_was_never_measured_takes_the_first_value():
    known = observe(profile(), 1.0, dispatch_seconds=0.7)
    assert known.dispatch_seconds == 0.7
    assert observe(known, 2.0, dispatch_seconds=0.9).dispatch_seconds == pytest.approx(0.8)


# --- receipts -------------------------------------------------------------------------------------------------


def test_a_receipt_refines_the_speed_of_the_variant_that_answered():
    known = learnt(profile(), receipt())  # 500 rows a second and thread
    assert known.variants["v"].rows_per_second == 500, "the probe knew nothing of what goes on beside"
    assert learnt(known, receipt(took=1.0)).variants["v"].rows_per_second == 750
    assert known.variants["v"].spreads["rows_per_second"].at == 2.0
    assert learnt(profile(), receipt(variant="another")).variants == profile().variants
    assert learnt(profile(), receipt("edge-2")) == profile()


def test_too_little_work_says_nothing_of_the_speed():
    few = receipt(took=0.1, computed_results=1, reused_results=9)
    assert learnt(profile(), few).variants["v"].rows_per_second == 1000
    assert learnt(profile(), receipt(computed_results=0, reused_results=10)) == profile()


def test_known_results_are_not_counted_as_work():
    half = receipt(took=1.0, computed_results=5, reused_results=5)
    assert learnt(profile(), half).variants["v"].rows_per_second == 500


def test_a_machine_that_sites_share_says_nothing_of_their_speed():
    """Three busy threads on two cores: each gets two thirds, which the plan reckons with itself."""
    three = [receipt(f"edge-{i}") for i in (1, 2, 3)]
    assert refine(profile(), three, three).variants["v"].rows_per_second == 1000
    assert refine(profile(cores=4), three, three).variants["v"].rows_per_second == 500
    one_after_another = [receipt(f"edge-{i}", start=10.0 * i) for i in (1, 2, 3)]
    assert refine(profile(), one_after_another, one_after_another).variants["v"].rows_per_second == 500


def fetching(**more) -> Receipt:
    """Ten megabytes over the link in 5 s, of which ten times 10 ms are latency."""
    spans = tuple(Span(stage=stage, site="edge-1", start=0, end=5) for stage in ("fetch", "infer"))
    plain = {"wan_in": 10_000_000, "seconds": {"fetch": 5.0, "infer": 2.0}, "spans": spans}
    return receipt(**(plain | more))


def test_shards_that_came_over_a_busy_link_refine_its_rate():
    known = learnt(profile(), fetching())
    rate = 1e7 / (5 * (1 - 10 * 0.01 / 5))
    assert known.down_bytes_per_second == pytest.approx((2e6 + rate) / 2)
    assert known.up_bytes_per_second == 1e6
    two_streams = fetching(seconds={"fetch": 10.0, "infer": 2.0})
    assert learnt(profile(), two_streams).down_bytes_per_second == pytest.approx((2e6 + 1e7 / (5 * 0.99)) / 2)


@pytest.mark.parametrize(
    "more",
    [
        {"wan_in": 0},  # the shards lay with the site
        {"bytes_in": 20_000_000},  # half of them
        {"bytes_in": 6_000_000},  # another order of the site used the link as well
        {"seconds": {"fetch": 2.0, "infer": 5.0}},  # the link waited for the runtime
        {"wan_in": 50_000, "bytes_in": 50_000},  # small objects
        {"seconds": {"fetch": 5.0, "infer": 2.0, "escalate": 1.0}},  # known results were read as well
        {"seconds": {"fetch": 5.0, "infer": 2.0, "wait": 1.0}},  # their origin was still sending them
        {"wan_in": 10_000_000, "model_bytes": 9_900_000},  # that was the variant
    ],
)
def test_where_the_link_was_not_what_all_waited_for_nothing_is_learnt_of_it(more):
    assert learnt(profile(), fetching(**more)).down_bytes_per_second == 2e6


def test_shards_that_were_sent_refine_the_up_link(monkeypatch, tmp_path):
    """A probe is seconds long, and what fills a link for a minute knows better."""
    store = FolderStore(tmp_path)
    monkeypatch.setattr(refine_profiles.storage, "open_store", lambda bucket: store)
    known = [profile(), profile("edge-2")]
    sent = {"edge-1": Sending(objects=10, bytes=5_000_000, seconds=10.05)}
    refined = refine_profiles.refine_profiles(known, {}, [], "bucket", sent)
    assert refined[0].up_bytes_per_second == pytest.approx(750_000), (
        "half a million a second weighs as much as the probe"
    )
    assert refined[0].spreads["up_bytes_per_second"].count == 2
    assert refined[1] == known[1]
    assert sites.read_profile(store, "edge-1") == refined[0]


def test_a_variant_that_has_not_worked_yet_is_slower_by_as_much_as_the_others_were():
    """A run measures the variant that works; compared with the bare probe of another it would look slow."""
    known = profile(
        variants={"v": speed(1000, probed_rows_per_second=1000), "w": speed(1100, probed_rows_per_second=1100)}
    )
    assert (profiles.rate(known, "v"), profiles.rate(known, "w")) == (1000, 1100)
    worn = learnt(learnt(known, receipt()), receipt())
    assert profiles.rate(worn, "v") == worn.variants["v"].rows_per_second < 700
    assert profiles.rate(worn, "w") == pytest.approx(1.1 * profiles.rate(worn, "v"))
    assert profiles.rate(learnt(worn, receipt(variant="w")), "w") == 500


# --- the probe --------------------------------------------------------------------------------------------------


class SlowStore(FolderStore):
    """A store behind a link, by a clock of its own: 20 ms, 1 MB/s up and 4 MB/s down."""

    moved, now = 0, 0.0

    def put(self, key, data):
        self.now += 0.02 + len(data) / 1e6
        self.moved += len(data)
        super().put(key, data)

    def get(self, key):
        data = super().get(key)
        self.now += 0.02 + len(data) / 4e6
        self.moved += len(data)
        return data


def test_the_probe_tells_latency_from_rate_and_does_not_flood_a_slow_link(tmp_path, monkeypatch):
    store = SlowStore(tmp_path)
    monkeypatch.setattr(probe_site, "time", SimpleNamespace(perf_counter=lambda: store.now))
    up, down, used = probe_site.measure_link(store, "edge-1")
    assert used == store.moved <= 1 << 19
    assert up.bytes_per_second == pytest.approx(1e6)
    assert down.bytes_per_second == pytest.approx(4e6)
    assert (up.latency_seconds, down.latency_seconds) == pytest.approx((0.02, 0.02))
    assert not list(store.keys("sites"))


def test_a_site_that_is_measured_again_keeps_what_was_known(tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    monkeypatch.setattr(probe_site.storage, "open_store", lambda bucket: store)
    site = Site(name="edge-1", tier="edge")
    first = probe_site.probe_site(site, (), tmp_path / "home", "bucket")
    assert 0 < first.memory_free_bytes <= first.memory_bytes
    assert 0 < first.disk_free_bytes <= shutil.disk_usage(tmp_path).total
    assert first.runtime_versions == {}, "no variant was to be measured"
    assert set(first.spreads) == {"up_bytes_per_second", "down_bytes_per_second", "latency_seconds"}
    store.put("sites/edge-1/profile.json", observe(first, 1.0, dispatch_seconds=0.5).model_dump_json().encode())
    again = probe_site.probe_site(site, (), tmp_path / "home", "bucket")
    assert again.spreads["up_bytes_per_second"].count == 2
    assert again.spreads["dispatch_seconds"].count == 1
    assert again.dispatch_seconds == 0.5
    assert sites.profiles(store)[0].site == "edge-1"


def test_what_a_site_measures_is_said_of_itself(monkeypatch):
    """Its profile is stored with the coordinator's credentials: a stolen site must not write another one's."""
    lie = profile("edge-2").model_dump(mode="json")
    answered = Answered(order_id="r/1", site="edge-1", body=lie, began=0, ended=1, wan_in=0, wan_out=0)
    monkeypatch.setattr(_dispatching, "_ask", lambda *about: answered)
    stolen = Site(name="edge-1", tier="edge", dispatch="mailbox")
    assert _dispatching.probe(stolen, (), "r", "bucket").site == "edge-1"


def card(runtime, model):
    return VariantCard(
        model="toy", version="v", tier="edge", recipe="r", runtime=runtime, runtime_version="1", key="models/toy",
        digest=hashlib.sha256(model).hexdigest(), bytes=len(model), classes=("0", "1"), shape=(3,), dtype="uint8", temperature=1.0,
        validation_rows=1, accuracy=1.0, accuracy_interval=(1.0, 1.0), class_accuracy=(1.0, 1.0), agreement=1.0,
        made_seconds=0.0,
    )  # fmt: skip


def test_a_profile_has_the_version_of_each_runtime_that_variants_were_measured_with(tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    monkeypatch.setattr(probe_site.storage, "open_store", lambda bucket: store)
    toy = SimpleNamespace(
        FORMAT="toy", load=lambda model, batch: lambda x: np.eye(2, dtype="f4")[x[:, 0] % 2], version=lambda: "7.1"
    )
    monkeypatch.setitem(RUNTIMES._loaded, "toy", toy)
    store.put("models/toy", b"a model")
    found = probe_site.probe_site(
        Site(name="edge-1", tier="edge"), (card("toy", b"a model"),), tmp_path / "home", "bucket"
    )
    assert found.runtime_versions == {"toy": "7.1"}
    (speed_of_it,) = found.variants.values()
    assert speed_of_it.runtime == "toy"
    assert speed_of_it.rows_per_second > 0
    assert found.disk_free_bytes > 0


def test_a_site_is_planned_with_the_memory_that_was_free_if_that_is_known():
    """A variant is taken to need the size of its file."""
    known, site = profile(memory_bytes=4_000, memory_free_bytes=5), Site(name="edge-1", tier="edge")
    assert place_site(site, known, ()).memory_bytes == 5
    assert place_site(site, known, ()).disk_bytes == known.disk_free_bytes
    assert place_site(site, profile(memory_bytes=4_000), ()).memory_bytes == 4_000


# --- how it is shown --------------------------------------------------------------------------------------------


def test_tables_and_picture_show_means_spreads_and_age():
    known = observe(profile(), 1000.0, up_bytes_per_second=2e6, dispatch_seconds=0.25)
    known = learnt(learnt(known, receipt()), receipt(took=1.0))
    (row,) = profile_chart.site_rows([known], 1000.0 + 7200)
    assert row["up, Mbit/s"] == "12.0 ± 4.0"
    assert row["hand-over, ms"] == "250"
    assert row["measured"] == "2 h ago"
    (fast,) = profile_chart.speed_rows([known], 2.0)
    assert fast["rows/s"] == "750 ± 250"
    assert fast["measurements"] == "3"
    picture = profile_chart.picture([known, profile("edge-2")])
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert "12.0 ± 4.0" in picture
    assert profile_chart.deviation(known, "latency_seconds") is None
    assert math.isclose(profile_chart.deviation(known, "up_bytes_per_second") or 0, 5e5)


def test_a_site_without_any_measurement_can_be_drawn():
    assert ElementTree.fromstring(profile_chart.picture([profile(variants={})])).tag.endswith("svg")
    assert profiles.refine(profile(), [], []) == profile()
