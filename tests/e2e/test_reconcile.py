"""What a run has to leave open is counted and named, and settled later: by `cloudedge reconcile`, or by the next run."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from data_catalog.nouns import Plan
from infra import keys
from tests.homes import predictions

pytestmark = pytest.mark.e2e

PARTIAL = 3
BOUND = ("--model", "quick", "--bound", "0.03")  # another threshold than any other test's, so the cloud is asked anew


@contextmanager
def cloud_without_a_model(report, home, store):
    """The cloud cannot load its variant: the object is gone from the store, and the file from its cache."""
    card = report["variants"]["cloud"]
    kept, cached = store.get(card["key"]), home.path / "sites" / "cloud" / "models" / card["digest"]
    store.delete(card["key"])
    cached.unlink(missing_ok=True)
    try:
        yield
    finally:
        store.put(card["key"], kept)


@pytest.fixture(scope="module")
def waiting(request, quick_run, up_home):
    """The report of a run whose cloud failed it."""
    store = request.getfixturevalue("module_store")
    with cloud_without_a_model(quick_run, up_home, store):
        report = up_home.run(*BOUND)
        still = up_home.call("reconcile", "--json", code=PARTIAL)
    return report, json.loads(still.stdout)[0]


@pytest.fixture(scope="module")
def whole(waiting, up_home):
    """The report of the same run when the cloud is back."""
    return up_home.run(*BOUND)


def test_without_the_cloud_a_run_is_complete_and_its_unsure_rows_wait(waiting, quick_run, module_store):
    report, still = waiting
    assert report["status"] == "complete"
    assert report["rows_out"] == report["rows_in"] == quick_run["rows_in"]
    assert (report["missing_rows"], report["escalated_rows"], report["held_rows"]) == (0, 0, 0)
    assert report["pending_rows"] > 0
    assert "is not in the store" in report["open_reasons"]["escalations"]
    rows = predictions(module_store, still).to_pylist()
    waits = [row for row in rows if row["status"] == "edge-pending"]
    assert len(waits) == report["pending_rows"] == still["pending_rows"]
    assert {(row["tier"], row["reason"]) for row in waits} == {("edge", "waits for the cloud")}
    assert all(row["prediction"] == row["edge_prediction"] for row in waits)
    assert {row["status"] for row in rows} == {"edge", "edge-pending"}


def test_reconciling_settles_it_and_no_byte_crosses_a_link_again(waiting, up_home, module_store, request):
    before, still = waiting
    done = up_home.call("reconcile", before["run_id"])
    assert f"{before['run_id']}: settled: 1,222 of 1,222 rows" in done.stdout
    after = json.loads(module_store.get(before["report_key"]))
    assert after["escalated_rows"] == before["pending_rows"]
    assert (after["pending_rows"], after["open_reasons"], after["status"]) == (0, {}, "complete")
    assert after["wan_bytes"] == still["wan_bytes"] == before["wan_bytes"]
    assert after["settled_at"] > before["started"] + before["total_seconds"]
    assert after["accuracy"]["cascade"] > before["accuracy"]["cascade"]
    assert [json.loads(module_store.get(key))["pending_rows"] for key in after["earlier_reports"]] == [
        before["pending_rows"], before["pending_rows"]
    ]  # fmt: skip
    kept = json.loads((up_home.path / "runs" / before["run_id"] / "report.json").read_text())
    assert kept == after
    assert "no unsettled run" in up_home.call("reconcile", before["run_id"], code=2).stderr
    whole = request.getfixturevalue("whole")
    assert whole["computed_results"] == 0
    assert predictions(module_store, whole).equals(predictions(module_store, after))


def test_of_two_that_would_settle_a_run_one_does(up_home, quick_run, module_store):
    with cloud_without_a_model(quick_run, up_home, module_store):
        report = up_home.run("--model", "quick", "--bound", "0.04")
    assert report["pending_rows"] > 0
    both = [up_home.start("reconcile", "--json", report["run_id"]) for _ in range(2)]
    said = [(*process.communicate(timeout=300), process.returncode) for process in both]
    assert 0 in {code for _, _, code in said}, said
    assert all(code == 0 or "no unsettled run" in err for _, err, code in said), said
    reports = [json.loads(out)[0] for out, _, code in said if code == 0]
    assert len({each["settled_at"] for each in reports}) == 1, "who came later gives the report of the other"
    assert {each["pending_rows"] for each in reports} == {0}
    after = json.loads(module_store.get(report["report_key"]))
    assert len(after["earlier_reports"]) == 1
    assert (after["pending_rows"], after["missing_rows"]) == (0, 0)


def test_at_the_deadline_what_is_there_counts_and_the_rest_is_named_and_settled(whole, up_home, module_store):
    """Two shards of one edge are lost, and there is no time; later there is, and only they are computed."""
    plan = Plan.model_validate_json(module_store.get(keys.run(whole["run_id"], "plan.json")))
    lost = [placement for placement in plan.placements if placement.site == "edge-1"][:2]
    for placement in lost:
        module_store.delete(keys.result(placement.result))
    rows = sum(placement.shard.rows for placement in lost)
    partial = json.loads(up_home.call("run", "--json", *BOUND, "--deadline", "0.001s", code=PARTIAL).stdout)
    assert partial["status"] == "partial"
    assert (partial["missing_rows"], partial["rows_out"]) == (rows, whole["rows_out"] - rows)
    assert set(partial["open_reasons"].values()) == {"no answer by the deadline"}
    named = pq.read_table(io.BytesIO(module_store.get(partial["missing_key"])))
    given = predictions(module_store, partial)["record_id"].to_pylist()
    assert len(named) == rows
    assert sorted(named["record_id"].to_pylist() + given) == predictions(module_store, whole)["record_id"].to_pylist()
    assert set(named["shard"].to_pylist()) == {placement.shard.digest for placement in lost}
    assert set(named["site"].to_pylist()) == {"edge-1"}

    next_one = up_home.run(*BOUND)
    assert next_one["computed_results"] == 2
    settled = json.loads(module_store.get(partial["report_key"]))
    assert (settled["status"], settled["missing_rows"], settled["pending_rows"]) == ("complete", 0, 0)
    assert settled["missing_key"] == ""
    assert predictions(module_store, settled).equals(predictions(module_store, whole))
    kept = json.loads((up_home.path / "runs" / partial["run_id"] / "report.json").read_text())
    assert kept["status"] == "complete"
