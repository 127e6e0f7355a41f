"""A site whose link is cut for the whole of a run does all of its work; settled later, once, for no bytes worth a word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_catalog.nouns import Plan, Receipt
from data_catalog.orders import Answered
from infra import keys, silence
from tests.homes import MANY_SHARDS, Home, environment, predictions, small_disk, wait_for
from tests.proxy import Fault, Link, link

pytestmark = pytest.mark.e2e

PARTIAL = 3
ROWS, SHARDS, NEAR = 8000, 80, 500  # of the site, and rows of another one
HALF = 2500  # rows of each site of `many-shards`
BORN = f"""
description: Digits, most of them far away
license: as mnist-5k
format: npz
sources:
  - {{ site: SITE, uri: "generated://repeated_digits/far.npz?rows={ROWS}&seed=1" }}
  - {{ site: edge-2, uri: "generated://repeated_digits/near.npz?rows={NEAR}&seed=2" }}
record: {{ shape: [28, 28, 1], dtype: uint8, low: 0, high: 255, columns: [x], label: y }}
shard_rows: {ROWS // SHARDS}
residency: unsure-rows
"""
SITE = "tier: edge\nthreads: 1\ndispatch: mailbox\n"


class Cut:
    """Cuts a link before a site's first result: from its first write after it looked up its order's results."""

    def __init__(self, cable: Link) -> None:
        self._cable = cable
        self._armed, self.down = threading.Event(), threading.Event()
        cable.fault = self

    def arm(self) -> None:
        self._cable.forget()
        self._armed.set()

    def mend(self) -> None:
        self._armed.clear()
        self.down.clear()

    def __call__(self, line: str) -> Fault | None:
        if self._armed.is_set() and not line.startswith(("GET", "HEAD")):
            # who has credentials names the object; who joined asked for each result, and posts without a name
            looked_up = len(self._cable.seen(r"^GET \S*/results/")) >= SHARDS
            if re.match(r"PUT \S*/(results|escalations)/", line) or (line.startswith("POST") and looked_up):
                self.down.set()
        return Fault(cut_up=0) if self.down.is_set() else None


@dataclass
class Machine:
    """A site's machine: its home, its link, and the coordinator's side of the job."""

    name: str
    home: Path
    cable: Link
    cut: Cut
    coordinator: Home
    set_there: dict[str, str]  # what the coordinator needs beside its own
    variables: dict[str, str]  # what the machine has beside its home

    @contextmanager
    def at_work(self):
        with (self.home / "site.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloudedge", "site", "work", self.name], cwd="/", stderr=log,
                env=environment(self.home, **self.variables),
            )  # fmt: skip
        try:
            yield process
            assert process.poll() is None, (self.home / "site.log").read_text()
        finally:
            process.kill()
            process.wait()

    def run(self, catalog, *more, code=0):
        given = ("--dataset", self.name, "--model", "quick", "--catalog", str(catalog), *more)
        return json.loads(self.coordinator.call("run", "--json", *given, code=code, **self.set_there).stdout)

    def reconcile(self, run_id):
        done = self.coordinator.call("reconcile", "--json", run_id, **self.set_there)
        return json.loads(done.stdout)[0]

    @property
    def spool(self) -> Path:
        return self.home / "sites" / self.name / "backlog"

    def waiting(self) -> list[str]:
        """Keys of the objects that wait on its disk."""
        files = sorted(self.spool.glob("[0-9]*"))
        return [json.loads(path.read_bytes().partition(b"\n")[0])["key"] for path in files]

    def wire(self) -> int:
        """Bytes that passed its link, headers included, without polls and signs of life, which count time."""
        ours = [each for each in self.cable.requests if not re.search(r"/(mailbox|presence)\.json", each.line)]
        return sum(each.up + each.down for each in ours)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    for kind in ("sites", "datasets"):
        (folder / kind).mkdir()
    (folder / "sites" / "far-posted.yaml").write_text(SITE)
    for name in ("far-posted", "far-joined"):
        (folder / "datasets" / f"{name}.yaml").write_text(BORN.replace("SITE", name))
    return folder


@pytest.fixture(scope="module", params=["posted", "joined"])
def machine(request, up_home, up_variables, quick_run, tmp_path_factory):
    """A machine with credentials, and one that joined."""
    name, home = f"far-{request.param}", tmp_path_factory.mktemp(request.param)
    with link(up_variables["AWS_ENDPOINT_URL"]) as cable:
        there = up_variables | {"AWS_ENDPOINT_URL": cable.url, "CLOUDEDGE_HOME": str(home)}
        made = Machine(name, home, cable, Cut(cable), up_home, {}, there)
        if request.param == "joined":
            made.set_there, made.variables = {"CLOUDEDGE_PUBLIC_ENDPOINT": cable.url}, {}
            token = up_home.call("site", "invite", name, **made.set_there).stdout.strip()
            joining = subprocess.Popen(
                [sys.executable, "-m", "cloudedge", "site", "join", token, "--no-start"], cwd="/", env=environment(home)
            )  # fmt: skip
            wait_for("the registration", lambda: "is admitted" in up_home.call("site", "list", **made.set_there).stdout)
            assert joining.wait(120) == 0
        yield made
        if request.param == "joined":
            up_home.call("site", "remove", name)


def crossed(store, run_id, site):
    """Bytes of contents that crossed the site's link, for all letters of a run."""
    said = [Answered.model_validate_json(store.get(key)) for key in store.keys(keys.run(run_id, "answers"))]
    return sum(each.wan_in + each.wan_out for each in said if each.site == site)


def forget_results(store, run_id, site):
    """As if the site had never answered, nor the cloud what it sent; its shards and models stay."""
    plan = Plan.model_validate_json(store.get(keys.run(run_id, "plan.json")))
    receipt = Receipt.model_validate_json(store.get(keys.receipt(run_id, site)))
    mine = {keys.result(placement.result) for placement in plan.placements if placement.site == site}
    for escalated in receipt.escalated:
        store.delete(escalated.key)
        store.delete(keys.result(escalated.result))  # of a shard that escalated whole it is the shard's
    for key in mine:
        store.delete(key)
    return mine


@pytest.fixture(scope="module")
def undisturbed(machine, catalog, module_store):
    """The report of a run with a link that holds, and the bytes that passed it."""
    with machine.at_work():
        first = machine.run(catalog)  # measures, fetches the model, cuts the shards
        forget_results(module_store, first["run_id"], machine.name)
        machine.cable.forget()
        report = machine.run(catalog)
    assert (report["status"], report["rows_out"]) == ("complete", ROWS + NEAR)
    return report, machine.wire()


def test_a_site_that_is_offline_for_the_whole_of_a_run(machine, catalog, module_store, undisturbed):
    before, wire = undisturbed
    rows, contents = predictions(module_store, before), crossed(module_store, before["run_id"], machine.name)
    results = forget_results(module_store, before["run_id"], machine.name)
    machine.cut.arm()
    with machine.at_work():
        partial = machine.run(catalog, "--deadline", "20s", code=PARTIAL)
        assert machine.cut.down.is_set()
        assert (partial["status"], partial["missing_rows"]) == ("partial", ROWS)
        assert partial["open_reasons"][machine.name] == "no answer by the deadline"
        assert partial["missing_key"]
        assert not module_store.present(sorted(results))
        answer = keys.run(partial["run_id"], "answers", f"answer-{machine.name}.json")
        wait_for("the end of its work", lambda: answer in machine.waiting())
        waits = machine.waiting()
        assert results < {*waits}
        assert waits.index(keys.receipt(partial["run_id"], machine.name)) < waits.index(answer)
        assert sum(key.startswith("escalations/") for key in waits) == SHARDS
    with machine.at_work():  # another process than the one that did it
        machine.cut.mend()
        settled = machine.reconcile(partial["run_id"])
        assert machine.waiting() == []
    assert (settled["status"], settled["rows_out"]) == ("complete", ROWS + NEAR)
    assert (settled["missing_rows"], settled["duplicate_rows"], settled["pending_rows"]) == (0, 0, 0)
    assert predictions(module_store, settled).equals(rows)
    extra = crossed(module_store, partial["run_id"], machine.name) / contents - 1
    extra_wire = machine.wire() / wire - 1
    print(f"{machine.name}: {contents:,} bytes, {extra:+.3%}; on the wire {wire:,}, {extra_wire:+.3%}")
    assert abs(extra) < 0.01
    if machine.name == "far-posted":  # what the other posts has no name on the wire: signs of life cannot be left out
        assert extra_wire < 0.01  # the requests of one more start and one more letter
        sent = [each.line.split("?")[0] for each in machine.cable.seen(r"^PUT \S*/(results|escalations)/") if each.up]
        assert len(sent) == len({*sent}) == 2 * SHARDS


def test_a_disk_that_is_too_small_for_what_waits(machine, catalog, module_store, undisturbed):
    """The site stops there; what waits is delivered, and the rest is answered when the link is back."""
    before, _ = undisturbed
    results = forget_results(module_store, before["run_id"], machine.name)
    if machine.spool.exists():
        machine.spool.rmdir()
    machine.cut.arm()
    with small_disk(machine.spool, "128k"), machine.at_work():
        partial = machine.run(catalog, "--deadline", "20s", code=PARTIAL)
        log = machine.home / "site.log"
        wait_for("the end of the disk", lambda: "free some space" in log.read_text() or keys_of_failures(machine))
        kept = results.intersection(machine.waiting())
        assert 0 < len(kept) < SHARDS
        machine.cut.mend()
        settled = machine.reconcile(partial["run_id"])
    assert (settled["status"], settled["rows_out"]) == ("complete", ROWS + NEAR)
    assert (settled["missing_rows"], settled["duplicate_rows"]) == (0, 0)
    assert predictions(module_store, settled).equals(predictions(module_store, before))
    if machine.name == "far-posted":
        sent = [each.line.split("?")[0] for each in machine.cable.seen(r"^PUT \S*/results/") if each.up]
        assert len(sent) == len({*sent}) == SHARDS


def keys_of_failures(machine):
    """The answer, that the order failed, if there was room for it."""
    return [key for key in machine.waiting() if "/answers/" in key]


def test_a_site_that_is_off_from_the_start(machine, catalog, module_store, undisturbed):
    """Its rows are those of its last index: named as missing, and settled when it is back. Nothing guessed is kept."""
    before, _ = undisturbed
    forget_results(module_store, before["run_id"], machine.name)
    if machine.name == "far-joined":
        module_store.delete(keys.profile(machine.name))
    partial = machine.run(catalog, "--deadline", "20s", code=PARTIAL)
    assert partial["total_seconds"] < 60
    assert (partial["status"], partial["missing_rows"], partial["rows_out"]) == ("partial", ROWS, NEAR)
    assert partial["open_reasons"][machine.name] == "no answer by the deadline"
    assert partial["unseen_sources"] == {machine.name: f"no answer by the deadline; {silence.AS_BEFORE}"}
    assert module_store.exists(keys.profile(machine.name)) == (machine.name == "far-posted")
    with machine.at_work():
        settled = machine.reconcile(partial["run_id"])
    assert (settled["status"], settled["rows_out"], settled["unseen_sources"]) == ("complete", ROWS + NEAR, {})
    assert predictions(module_store, settled).equals(predictions(module_store, before))


@pytest.mark.parametrize(("name", "rows"), [("cut-compress", 125), ("cut-probe", 250)])
def test_a_site_that_goes_off_when_it_has_said_what_it_holds(machine, catalog, module_store, undisturbed, name, rows):
    """Before its shards are stored; and before it is measured."""
    if machine.name == "far-joined":
        pytest.skip("what it asks for has no name on the wire")
    text = MANY_SHARDS.replace("shard_rows: 40", f"shard_rows: {rows}").replace("site: edge-1", f"site: {machine.name}")
    (catalog / "datasets" / f"{name}.yaml").write_text(text)
    if name == "cut-probe":
        module_store.delete(keys.profile(machine.name))
    prepared = threading.Event()

    def cut(line: str) -> Fault | None:
        down = prepared.is_set()
        if re.match(r"PUT \S*/answers/prepare-", line):
            prepared.set()
        return Fault(cut_up=0) if down else None

    machine.cable.fault = cut
    with machine.at_work():
        partial = machine.run(catalog, "--dataset", name, "--deadline", "40s", code=PARTIAL)
        assert prepared.is_set()
        assert (partial["status"], partial["missing_rows"], partial["unseen_sources"]) == ("partial", HALF, {})
        assert set(partial["open_reasons"]) >= {machine.name}
        machine.cable.fault = machine.cut
        settled = machine.reconcile(partial["run_id"])
    assert (settled["status"], settled["rows_out"], settled["missing_rows"]) == ("complete", 2 * HALF, 0)


def test_a_source_that_never_said_what_it_holds_is_not_counted(up_home, catalog, machine):
    if machine.name == "far-joined":
        pytest.skip("the machine has no part in it")
    (catalog / "sites" / "never.yaml").write_text(SITE)
    text = MANY_SHARDS.replace("site: edge-1", "site: never")
    (catalog / "datasets" / "half-known.yaml").write_text(text)
    (catalog / "datasets" / "unknown.yaml").write_text(re.sub(r"  - { site: edge-2.*\n", "", text))
    given = ("run", "--json", "--model", "quick", "--catalog", str(catalog), "--dataset")
    partial = json.loads(up_home.call(*given, "half-known", "--deadline", "40s", code=PARTIAL).stdout)
    assert (partial["status"], partial["rows_in"], partial["missing_rows"]) == ("partial", HALF, 0)
    assert partial["unseen_sources"] == {"never": f"no answer by the deadline; {silence.NEVER}"}
    assert partial["open_reasons"]["never"] == "no answer by the deadline"
    assert (
        "no source of dataset unknown can be counted"
        in up_home.call(*given, "unknown", "--deadline", "10s", code=1).stderr
    )
