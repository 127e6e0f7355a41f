"""kill -9 of the whole program in the middle of inference: nothing is lost, nothing is computed twice."""

from __future__ import annotations

import os
import signal

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.stack import servers
from tests.homes import servers_of, wait_for

pytestmark = pytest.mark.chaos

RUN = ("--model", "quick", "--dataset", "many-shards")


@pytest.fixture
def store(fresh_home, monkeypatch):
    """The store of whatever S3 server of that home lives at the moment."""
    from infra.storage import Store

    def open_now() -> Store:
        gateway = next(p for p in servers_of(fresh_home.path) if p.name() == "juicefs")
        urls = [
            f"http://127.0.0.1:{c.laddr.port}"
            for c in gateway.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        access, secret, _ = servers.credentials(fresh_home.path)
        for name, value in {
            "AWS_ENDPOINT_URL": next(url for url in urls if servers.answers(f"{url}/minio/health/live")), "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        return Store(servers.BUCKET)

    return open_now


def predictions(store, report, folder):
    """All predictions of a run, sorted by record."""
    parts = []
    for key in report["predictions"]:
        store.get_file(key, folder / "part.parquet")
        parts.append(pq.read_table(folder / "part.parquet"))
    return pa.concat_tables(parts).sort_by("record_id")


def test_killed_in_the_middle_of_inference(fresh_home, store, tmp_path):
    before = len(list((fresh_home.path / "runs").glob("*/report.json")))
    process = fresh_home.start("run", *RUN)
    for line in process.stderr:
        if line.startswith("infer"):
            break
    running = store()
    fresh = set(running.keys("results"))
    wait_for("twenty results", lambda: len(set(running.keys("results")) - fresh) > 20)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert process.poll() is None, "the run ended before it could be killed"
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(servers_of(fresh_home.path), timeout=15)
    assert not servers_of(fresh_home.path)
    assert len(list((fresh_home.path / "runs").glob("*/report.json"))) == before

    resumed = fresh_home.run(*RUN)
    assert resumed["status"] == "complete"
    assert resumed["rows_in"] == resumed["rows_out"] == 5000
    assert resumed["missing_rows"] == resumed["duplicate_rows"] == 0
    assert resumed["reused_results"] > 20
    assert resumed["computed_results"] > 0
    edge_results = resumed["computed_results"] + resumed["reused_results"]

    fresh_home.call("up")
    try:
        running = store()
        after_kill = predictions(running, resumed, tmp_path)
        for prefix in ("results", "escalations"):
            for key in running.keys(prefix):
                running.delete(key)
        undisturbed = fresh_home.run(*RUN)
        assert undisturbed["reused_results"] == 0
        assert undisturbed["computed_results"] == edge_results
        assert predictions(running, undisturbed, tmp_path).equals(after_kill)
    finally:
        fresh_home.call("down")
