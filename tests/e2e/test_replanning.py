"""A run in which a site is slower than it was measured: another takes over, and every row is answered once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from data_catalog.nouns import Plan
from infra import keys, whereabouts
from tests.conftest import ROOT
from tests.homes import MANY_SHARDS, environment, site_process, wait_for

pytestmark = pytest.mark.e2e


def begin(home, catalog, dataset, *arguments):
    """`cloudedge run` in which the site that begins first takes a second a shard."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.slow_run", "1.0", "run", "--json", "--model", "quick", "--bound", "1",
         "--dataset", dataset, *arguments],
        env=environment(home.path, CLOUDEDGE_CATALOG=str(catalog), PYTHONPATH=str(ROOT)), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def end(process, code=0):
    """Its report."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return json.loads(out)


def slowly(home, catalog, *arguments):
    """The report of such a run over two edges."""
    return end(begin(home, catalog, "free-shards", "--site", "edge-1", "--site", "edge-2", *arguments))


def test_shards_leave_a_site_that_is_slower_than_planned(
    up_home, quick_run, up_store, prefect_client, quick_catalog, tmp_path
):
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    (tmp_path / "datasets").mkdir()
    few = MANY_SHARDS.replace("unsure-rows", "any").replace("modulo: 2", "modulo: 10")
    (tmp_path / "datasets" / "free-shards.yaml").write_text(few)
    catalog = f"{tmp_path}:{quick_catalog}"
    report = slowly(up_home, catalog)
    assert report["status"] == "complete"
    assert report["rows_in"] == report["rows_out"] == 1000
    first = Plan.model_validate_json(up_store.get(keys.run(report["run_id"], "plan.json")))
    last = Plan.model_validate_json(up_store.get(report["replanned"][-1]["plan"]))
    slow = report["replanned"][0]["why"].partition(" ")[0]
    assert "is behind" in report["replanned"][0]["why"]
    planned, answered = (sum(p.site == slow for p in plan.placements) for plan in (first, last))
    assert planned > answered
    assert [p.result for p in last.placements] == [p.result for p in first.placements], "by the same variant"
    assert all(up_store.exists(keys.result(p.result)) for p in last.placements)
    assert sum(each["moved"] for each in report["replanned"]) >= planned - answered
    assert "took over" in next(line["reason"] for line in report["sites"] if line["name"] != slow)
    plans = prefect_client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["plan"])))
    shown = [a for a in plans if report["run_id"] in a.description]
    now = next(a for a in shown if "as it came" in a.description)
    assert len(shown) == 2
    assert {row["site"]: row["shards"] for row in json.loads(now.data)} == {
        name: sum(p.site == name and not p.reused for p in last.placements) for name in ("edge-1", "edge-2")
    }
    assert report["predicted_totals"] == last.totals != first.totals
    page = up_store.get(keys.run(report["run_id"], "report.html")).decode()
    assert "The plan was changed while the run was under way" in page

    known = whereabouts.recall(up_store, "free-shards")
    assert known == {p.shard.digest: p.site for p in last.placements}, "where the next plan takes them to be"
    planned = json.loads(up_home.call("plan", "--json", "--dataset", "free-shards", "--model", "quick", "--bound", "1",
                                      "--site", "edge-1", "--site", "edge-2", "--afresh",
                                      CLOUDEDGE_CATALOG=catalog).stdout)  # fmt: skip
    after = Plan.model_validate_json(up_store.get(keys.run(planned["run_id"], "plan.json"))).placements
    had, has = (Counter((p.shard.origin, site) for p, site in zip(after, sites, strict=True))
                for sites in ([known[p.shard.digest] for p in after], [p.site for p in after]))  # fmt: skip
    moved = sum(p.site != known[p.shard.digest] for p in after)
    assert moved == sum(max(0, n - had[pair]) for pair, n in has.items()), "no more than its counts force"

    again = slowly(up_home, catalog, "--no-replan")  # all is known, whoever answered it
    assert again["replanned"] == []
    assert again["rows_out"] == 1000
    assert again["computed_results"] == 0


def born_at_one(folder, name, remainders):
    """A catalog with a dataset whose rows are all born at the first edge; they may leave it."""
    (folder / "datasets").mkdir(exist_ok=True)
    text = re.sub(r"  - { site: edge-2.*\n", "", MANY_SHARDS.replace("unsure-rows", "any"))
    text = text.replace("modulo: 2, remainders: [0]", f"modulo: 10, remainders: {remainders}")
    (folder / "datasets" / f"{name}.yaml").write_text(text)


def test_a_site_whose_process_begins_while_a_run_is_under_way_gets_work(
    up_home, quick_run, up_store, up_variables, quick_catalog, tmp_path
):
    born_at_one(tmp_path, "one-edge", [2, 3, 4, 5])
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "late-one.yaml").write_text("tier: edge\nthreads: 1\ndispatch: mailbox\n")
    catalog = f"{tmp_path}:{quick_catalog}"
    with site_process("late-one", tmp_path / "late", up_variables):  # it is measured, and goes
        up_home.run("--model", "quick", "--bound", "1", "--site", "edge-1", "--site", "edge-2", "--site", "edge-3",
                    "--site", "late-one", CLOUDEDGE_CATALOG=catalog)  # fmt: skip
    run = begin(up_home, catalog, "one-edge", "--site", "edge-1", "--elastic")
    runs = {key.split("/")[1] for key in up_store.keys("runs") if "/progress/" in key}
    wait_for("progress", lambda: any(
        "/progress/" in key and key.split("/")[1] not in runs for key in up_store.keys("runs")))  # fmt: skip
    with site_process("late-one", tmp_path / "late", up_variables) as process:
        report = end(run)
        assert process.poll() is None
    assert (report["status"], report["rows_out"], report["missing_rows"]) == ("complete", 2000, 0)
    assert "late-one joined" in report["replanned"][0]["why"]
    last = Plan.model_validate_json(up_store.get(report["replanned"][-1]["plan"]))
    taken = [p for p in last.placements if p.site == "late-one"]
    assert taken
    assert all(up_store.exists(p.key) and up_store.exists(keys.result(p.result)) for p in taken)
    lines = {line["name"]: line for line in report["sites"]}
    assert lines["late-one"]["rows"] == sum(p.shard.rows for p in taken)
    assert lines["late-one"]["wan_bytes"] > 0


def test_a_site_that_nobody_has_measured_is_measured_beside_the_run_and_gets_work(
    up_home, quick_run, up_store, up_variables, quick_catalog, tmp_path
):
    born_at_one(tmp_path, "new-edge", [0, 1, 3, 5, 7, 9])
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "new-one.yaml").write_text("tier: edge\nthreads: 1\ndispatch: mailbox\n")
    run = begin(up_home, f"{tmp_path}:{quick_catalog}", "new-edge", "--site", "edge-1", "--elastic")
    runs = {key.split("/")[1] for key in up_store.keys("runs") if "/progress/" in key}
    wait_for("progress", lambda: any(
        "/progress/" in key and key.split("/")[1] not in runs for key in up_store.keys("runs")))  # fmt: skip
    assert not up_store.exists(keys.profile("new-one"))
    with site_process("new-one", tmp_path / "new", up_variables) as process:
        report = end(run)
        assert process.poll() is None
    assert (report["status"], report["rows_out"], report["missing_rows"]) == ("complete", 3000, 0)
    assert up_store.exists(keys.profile("new-one"))
    assert "new-one joined" in report["replanned"][0]["why"]
    last = Plan.model_validate_json(up_store.get(report["replanned"][-1]["plan"]))
    assert any(p.site == "new-one" for p in last.placements)


def test_a_watched_run_ends_at_its_deadline_and_is_settled_later(up_home, quick_run, up_store, quick_catalog, tmp_path):
    born_at_one(tmp_path, "in-time", [6, 7, 8, 9])
    run = begin(up_home, f"{tmp_path}:{quick_catalog}", "in-time", "--site", "edge-1", "--deadline", "25s")
    report = end(run, 3)
    assert report["status"] == "partial"
    assert report["open_reasons"] == {"edge-1": "no answer by the deadline"}
    assert 0 < report["missing_rows"] == 2000 - report["rows_out"]
    before = {*up_store.keys("results")}
    settled = json.loads(up_home.call("reconcile", report["run_id"], "--json").stdout)[0]
    assert (settled["status"], settled["rows_out"], settled["open_reasons"]) == ("complete", 2000, {})
    plan = Plan.model_validate_json(up_store.get(keys.run(report["run_id"], "plan.json")))
    assert {keys.result(p.result) for p in plan.placements} > before & {keys.result(p.result) for p in plan.placements}


def test_a_budget_is_shared_out_among_those_who_answered_in_the_end(
    up_home, quick_run, up_store, quick_catalog, tmp_path
):
    born_at_one(tmp_path, "on-budget", [1, 2])
    sites = ("--site", "edge-1", "--site", "edge-2", "--site", "cloud")
    more = ("--bound", "0.03", "--escalate-at-most", "20")
    report = end(begin(up_home, f"{tmp_path}:{quick_catalog}", "on-budget", *sites, *more))
    assert (report["status"], report["rows_out"], report["missing_rows"]) == ("complete", 1000, 0)
    assert sum(each["moved"] for each in report["replanned"]) > 0
    assert (report["escalated_rows"], report["pending_rows"]) == (20, 0)
    assert report["held_rows"] > 0
