"""The laboratory's parts that need neither a server nor a second: options, links, faults, naive placements, metrics."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lab import measure
from cloudedge import lab
from data_catalog.errors import BadInput, CorruptObject, ObjectMissing, PlanError
from data_catalog.nouns import OrderedShard, WorkOrder
from infra import plan_table, premises
from infra.emulation import faults, namespaces, speeds
from infra.emulation.bucket import BURST_SECONDS, Bucket
from infra.emulation.world import Spec
from infra.placement import PlaceOrigin, PlaceSite, PlaceVariant, Problem, _naive, programme
from infra.report import plan_chart
from infra.report.lab_page import bars
from infra.testing import placement_suite
from tests.homes import wait_for
from tests.stores import FolderStore

pytestmark = pytest.mark.unit

SITES = tuple(
    PlaceSite(
        name=name, cloud=name == "cloud", host=name, host_cores=2, threads=1,
        variants=(PlaceVariant(name="v", seconds_per_row=0.001, startup_seconds=0.0),), dispatch_seconds=0.0,
        latency_seconds=0.0, up=1e6, down=1e6,
    )
    for name in ("a", "b", "cloud")
)  # fmt: skip


@given(
    st.floats(1e3, 1e8),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 4096)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_carries_more_than_the_rate(rate, chunks):
    """Chunks come when they like; of what the bucket lets through, any stretch holds at most the rate, the burst and one chunk."""
    bucket, now, passed = Bucket(rate), 0.0, []
    for pause, size in chunks:
        now += pause
        passed.append((now + bucket.wait(size, now), size))
    times = [at for at, _ in passed]
    assert times == sorted(times), "later bytes overtake"
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            carried = sum(size for _, size in passed[first : last + 1])
            stretch = times[last] - times[first]
            assert carried <= rate * (stretch + BURST_SECONDS) * (1 + 1e-9) + 4096


def test_an_endless_rate_makes_nothing_wait():
    assert Bucket(float("inf")).wait(1 << 30, 5.0) == 0.0


@given(st.floats(100, 1e6), st.floats(100, 1e6), st.floats(1, 100))
def test_a_faster_machine_emulates_the_same_sites(edge, cloud, faster):
    """Up to the share that they may have, sites answer as many rows a second on any machine, and in proportion."""
    specs = [Spec(name="ward-1", share=0.4), Spec(name="ward-2", share=0.1), Spec(name=lab.CLOUD, share=0.5)]
    shares = lab.at_pace(specs, {"edge": edge, "cloud": cloud})
    again = lab.at_pace(specs, {"edge": edge * faster, "cloud": cloud * faster})
    assert all(again[spec.name] <= shares[spec.name] <= spec.share for spec in specs)
    assert shares["ward-1"] == pytest.approx(4 * shares["ward-2"])
    tiers = (("edge", edge, ("ward-1", "ward-2")), ("cloud", cloud, (lab.CLOUD,)))
    for tier, rate, names in tiers:
        slow = rate * sum(shares[name] for name in names)
        fast = rate * faster * sum(again[name] for name in names)
        assert slow <= fast * (1 + 1e-9) <= lab.ROWS_A_SECOND[tier] * (1 + 1e-8)
        assert slow < lab.ROWS_A_SECOND[tier] * (1 - 1e-9) or fast == pytest.approx(slow)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("cut", "ward-2@10s+20s", "cut ward-2@10s+20s"),
        ("kill", "cloud@15s", "kill cloud@15s"),
        ("slow", "ward-1@1.5s/4", "slow ward-1@1.5s/4"),
        ("corrupt", "ward-1@5s", "corrupt ward-1@5s"),
    ],
)
def test_faults_are_read_as_they_are_written(kind, text, said):
    assert [str(fault) for fault in lab.read_faults(kind, [text], ["ward-1", "ward-2", "cloud"])] == [said]


@pytest.mark.parametrize(
    ("kind", "text"), [("cut", "ward-1@10s"), ("slow", "ward-1@10s"), ("kill", "ward-9@1s"), ("kill", "ward-1")]
)
def test_a_fault_that_says_too_little_is_refused(kind, text):
    with pytest.raises(BadInput, match=f"--{kind}"):
        lab.read_faults(kind, [text], ["ward-1"])


def test_numbers_are_one_for_all_or_one_each():
    assert lab.numbers("50", 3, "--down") == (50.0, 50.0, 50.0)
    assert lab.numbers("8:4:2", 3, "--speed", ":") == (8.0, 4.0, 2.0)
    for text in ("8:4", "a:b:c", "8:4:-1", "8:4:inf"):
        with pytest.raises(BadInput, match="--speed"):
            lab.numbers(text, 3, "--speed", ":")


def test_naive_placements_place_every_shard():
    origins = (
        PlaceOrigin(site="a", shards=10, rows=100.0, bytes=1e3, resident=False),
        PlaceOrigin(site="b", shards=1, rows=100.0, bytes=1e3, resident=False),
    )
    problem = Problem(sites=SITES, origins=origins, record_bytes=1.0)
    answered = {}
    for name in _naive.NAIVE:
        solution = _naive.place(problem, name)
        assert sum(solution.counts.values()) == 11
        answered[name] = {
            site.name: sum(n for (_, i, _), n in solution.counts.items() if i == site.name) for site in SITES
        }
        assert solution.seconds > 0
        placement_suite.require_honest_gap(problem, solution)
        assert solution.lower_bound == pytest.approx(programme.place(problem).lower_bound)
        assert 0 < solution.balance < 1
    assert answered["cloud-only"] == {"a": 0, "b": 0, "cloud": 11}
    assert answered["edge-only"] == {"a": 10, "b": 1, "cloud": 0}
    assert answered["equal-split"] == {"a": 4, "b": 4, "cloud": 3}


def test_a_naive_placement_moves_nothing_that_must_stay():
    origin = PlaceOrigin(site="a", shards=10, rows=100.0, bytes=1e3, resident=True)
    problem = Problem(sites=SITES, origins=(origin,), record_bytes=1.0)
    with pytest.raises(PlanError, match="a, which must stay there"):
        _naive.place(problem, "cloud-only")
    assert _naive.place(problem, "edge-only").counts == {("a", "a", "v"): 10}


@given(placement_suite.problems(shards=9), st.sampled_from(sorted(_naive.NAIVE)))
def test_a_naive_placement_says_how_far_it_is_from_the_best(problem, name):
    try:
        solution = _naive.place(problem, name)
    except PlanError:
        return
    placement_suite.require_honest_gap(problem, solution)
    best = programme.place(problem)
    if math.isfinite(solution.gap):
        assert solution.lower_bound == pytest.approx(min(best.lower_bound, solution.seconds))
    else:
        assert programme.put(problem, solution.counts, 0.0) is None


def test_a_naive_placement_that_breaks_a_cap_is_compared_with_nothing():
    origin = PlaceOrigin(site="a", shards=10, rows=100.0, bytes=1e3, resident=False)
    problem = Problem(sites=SITES, origins=(origin,), record_bytes=1.0, caps={"bytes": 5e3})
    solution = _naive.place(problem, "cloud-only")
    assert (solution.bytes, solution.lower_bound, solution.gap) == (1e4, 0.0, math.inf)
    assert "how near the best it is, is not known" in " ".join(plan_table.totals(problem, solution))
    assert "no plan is sooner" not in plan_chart.seconds(problem, solution)


def test_a_shard_that_is_still_on_its_way_is_waited_for(tmp_path, monkeypatch):
    store = FolderStore(tmp_path / "store")
    site = premises.SiteStore(store, tmp_path / "premises")
    key = "datasets/d/shards/abc.arrow.zstd"
    timer = threading.Timer(0.2, lambda: store.put(key, b"shard"))
    timer.start()
    assert site.get(key) == b"shard"
    timer.join()
    assert site.account() == (5, 0)
    assert site.account() == (0, 0)
    monkeypatch.setattr(premises, "PATIENCE", 0.1)
    with pytest.raises(ObjectMissing):
        site.get("datasets/d/shards/never.arrow.zstd")


def test_what_stayed_is_carried_out_when_the_plan_moves_it(tmp_path):
    store = FolderStore(tmp_path / "store")
    site = premises.SiteStore(store, tmp_path / "premises")
    key = "datasets/d/shards/abc.arrow.none"
    site.stay([key])
    site.put(key, b"shard")
    assert not store.exists(key)
    both = [key, "datasets/d/shards/elsewhere.arrow.none"]
    assert [size for _, _, size in site.carry_out(both)] == [5]
    assert site.carry_out(both) == [], "it is there"
    assert store.get(key) == b"shard"
    assert site.account() == (0, 5)


class FakeSite:
    """A site to which faults happen."""

    def __init__(self, home: Path) -> None:
        self.spec, self.home, self.done = Spec(name="ward-1", share=0.5), home, []
        self.process: str | None = "here"

    def cut(self, *, off: bool) -> None:
        self.done.append(("cut", off))

    def set_share(self, share: float) -> None:
        self.done.append(("share", share))

    def kill(self) -> None:
        self.done.append(("kill",))
        self.process = None

    def start(self) -> None:
        self.done.append(("start",))
        self.process = "here"


def test_what_is_cut_is_mended_even_if_the_run_ends_before(tmp_path):
    site, begun = FakeSite(tmp_path), threading.Event()
    wanted = [
        faults.Fault("slow", "ward-1", 0.0, 0.02, 4.0), faults.Fault("cut", "ward-1", 0.04, 60.0),
        faults.Fault("kill", "ward-1", 0.06, 60.0),
    ]  # fmt: skip
    began = time.monotonic()
    with faults.inflict(wanted, {"ward-1": site}, FolderStore(tmp_path / "store"), begun):
        begun.set()
        while len(site.done) < 4:
            time.sleep(0.01)
    assert time.monotonic() - began < 50
    assert site.done == [("share", 0.125), ("share", 0.5), ("cut", True), ("kill",), ("cut", False), ("start",)]


def test_who_was_killed_for_good_is_there_again_after_the_run(tmp_path):
    site, begun = FakeSite(tmp_path), threading.Event()
    with faults.inflict(
        [faults.Fault("kill", "ward-1", 0.0)], {"ward-1": site}, FolderStore(tmp_path / "store"), begun
    ):
        begun.set()
        while not site.done:
            time.sleep(0.01)
        assert site.done == [("kill",)]
    assert site.done == [("kill",), ("start",)]


def test_the_flipped_byte_is_found(tmp_path, monkeypatch):
    store = FolderStore(tmp_path / "store")
    site = FakeSite(tmp_path / "home")
    own = premises.SiteStore(store, site.home / "sites" / "ward-1" / "premises")
    key = "datasets/d/shards/abc.arrow.none"
    own.stay([key])
    own.put(key, b"shard" * 100)
    order = WorkOrder.model_construct(
        shards=(OrderedShard(key=key, digest="abc", rows=1, bytes=500, codec="none", result="ff00", local=True),)
    )
    monkeypatch.setattr(WorkOrder, "model_validate_json", lambda data: order)
    store.put("runs/1/orders/ward-1.json", b"{}")
    faults.flip(site, store)
    path = site.home / "sites" / "ward-1" / "premises" / key
    with pytest.raises(CorruptObject, match="run again"):
        own.get(key)
    assert not path.exists(), "so the next run makes it anew"


def test_the_metrics_of_a_result():
    def trial(name: str, seconds: float, accuracy: float, link: int) -> dict:
        return {
            "name": name, "seconds": seconds, "predicted_seconds": seconds, "lower_bound_seconds": 50.0,
            "accuracy": accuracy, "link_bytes": link, "predicted_link_bytes": int(1.1 * link), "raw_bytes": 784_000,
            "wire_bytes": 2 * link, "rows_by_site": {"ward-1": 700, "cloud": 300},
        }  # fmt: skip

    result = {
        "rows": 1000, "sites": [{}, {}], "emulation": {"links": "l", "latency": "d", "speed": "s"},
        "trials": [trial("cloud-only", 200, 0.99, 500_000), trial("equal split", 120, 0.985, 90_000),
                   trial("cloudedge", 60, 0.987, 28_000)],
    }  # fmt: skip
    metrics, lines = measure(result)
    assert metrics["makespan_over_bound"] == pytest.approx(1.2)
    assert metrics["best_naive_over_ours"] == pytest.approx(2.0)
    assert metrics["accuracy_drop"] == pytest.approx(0.003)
    assert metrics["bytes_reduction"] == pytest.approx(28.0)
    assert metrics["prediction_error"] == pytest.approx(0.1, abs=1e-4)
    assert any("equal split" in line for line in lines)
    assert bars(result["trials"]).count("<rect") == 3


def test_a_share_of_a_core_is_what_a_group_allows():
    root = speeds.group_root()
    if root is None:
        pytest.skip("no control groups can be made here")
    group = speeds.make_group(root, "test")
    try:
        speeds.limit(group, 0.25)
        code = (
            "import os, time\n"
            f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from infra.sites import core_quota\n"
            "end = time.monotonic() + 0.6; begun = time.process_time()\n"
            "while time.monotonic() < end: pass\n"
            "print(core_quota(), (time.process_time() - begun) / 0.6)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
        quota, used = map(float, done.stdout.split())
        assert quota == pytest.approx(0.25)
        assert used < 0.4
    finally:
        speeds.remove_group(group)
    assert not group.exists()


def test_a_link_between_namespaces_carries_its_rate_and_no_more():
    if reason := namespaces.why_not():
        pytest.skip(reason)
    rate, size = 500_000.0, 1_000_000
    place = namespaces.make(77, up=rate, down=float("inf"), latency=0.0)
    try:
        listening = socket.create_server((place.gateway, 0))
        code = (
            "import socket\n"
            f"s = socket.create_connection(('{place.gateway}', {listening.getsockname()[1]})); s.sendall(bytes({size})); s.close()"
        )
        begun = time.monotonic()
        sender = subprocess.Popen([shutil.which("ip"), "netns", "exec", place.name, sys.executable, "-c", code])
        taken, _ = listening.accept()
        got = 0
        while data := taken.recv(1 << 16):
            got += len(data)
        seconds = time.monotonic() - begun
        sender.wait()
        listening.close()
        assert got == size
        assert got / seconds < 1.25 * rate, "a slow machine makes it slower, never faster"
    finally:
        namespaces.remove(place.name)
    assert namespaces.sweep() == []


def test_a_relay_passes_everything_on_no_faster_than_its_link(tmp_path):
    rate, sent = 2e6, os.urandom(300_000)
    store = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        taken, _ = store.accept()
        got = b""
        while len(got) < len(sent):
            got += taken.recv(1 << 16)
        taken.sendall(got)
        taken.close()

    thread = threading.Thread(target=echo)
    thread.start()
    relay = subprocess.Popen(
        [sys.executable, "-m", "infra.emulation.relay", "127.0.0.1:0", f"127.0.0.1:{store.getsockname()[1]}", f"{rate}",
         "inf", "0.04"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd(),
    )  # fmt: skip
    try:
        relay.stdin.write(f"{tmp_path / 'passed'}\n")
        relay.stdin.close()
        site = socket.create_connection(("127.0.0.1", int(relay.stdout.readline())))
        begun, back = time.monotonic(), b""
        site.sendall(sent)
        while data := site.recv(1 << 16):
            back += data
        seconds = time.monotonic() - begun
        assert back == sent
        assert seconds > 0.9 * len(sent) / rate + 0.04, "a slow machine makes it slower, never faster"
        wait_for("the count", lambda: (tmp_path / "passed").read_text() == f"{len(sent)} {len(sent)}", 20)
    finally:
        relay.kill()
        relay.wait()
        relay.stdout.close()
        store.close()
        thread.join()
