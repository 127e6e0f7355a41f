"""Prefect's server is killed in the middle of two runs, and is gone for a while: no work is lost, and the runs end right.

One is a command, most of whose work and end fall into the outage. The other one is a flow run of a deployment, done by a
worker; it holds its deployment's slot, and works from before the outage until its slot's lease was renewed after it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.deployed import deployed, waits
from tests.homes import wait_for

pytestmark = pytest.mark.chaos

# A client tries again after 2, 6, 14, 30, 62, 126 and 254 s; a lease lives for 300 s and is renewed after 225.
OUTAGE_SECONDS = float(os.environ.get("CHAOS_OUTAGE_SECONDS", "120"))


@pytest.fixture
def place(up_variables, quick_run, quick_catalog, tmp_path):
    with deployed(tmp_path, up_variables, quick_catalog) as found:
        yield found


def test_a_server_that_is_gone_in_the_middle_of_two_runs(up_home, up_store, place, tmp_path):
    before, held = set(up_store.keys("runs")), tmp_path / "held"
    with place.worker("worker") as worker:
        run = place.start("run", "held-d", held)
        waits(held)
        assert place.slots("run") == 1
        (lease,) = (Path(place.up.home) / "prefect" / "concurrency_leases").glob("*-*.json")
        variables = {name: place.home.variables[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}
        command = up_home.start("run", "--model", "quick", "--dataset", "many-shards", "--json", **variables)
        for line in command.stderr:
            if line.startswith("infer"):
                break
        server = place.up.processes["prefect"]
        server.kill()
        server.wait()
        assert command.poll() is None, "the run ended before its server could be killed"
        time.sleep(OUTAGE_SECONDS)
        assert worker.poll() is None
        place.restart()
        until = lease.read_text()

        out, err = command.communicate(timeout=600)
        assert command.returncode == 0, err
        check_rows(json.loads(out))

        wait_for("the renewal of its lease", lambda: lease.read_text() != until, 300)
        assert (place.state(run).name, place.slots("run")) == ("Running", 1)
        held.touch()
        state = wait_for("its end", lambda: (state := place.state(run)).is_final() and state)
        assert state.is_completed(), state
        new = {key for key in set(up_store.keys("runs")) - before if key.endswith("/report.json")}
        reports = [json.loads(up_store.get(key)) for key in new]
        assert sorted(report["dataset"] for report in reports) == ["held-d", "many-shards"]
        for report in reports:
            check_rows(report)
        runs = [run for run in place.client.read_flow_runs() if run.start_time]  # not the nights to come
        assert len(runs) >= 8, "two jobs, and a sub-flow for each site of both"
        assert {run.state.name for run in runs} == {"Completed"}
        assert place.slots("run") == 0
        assert not lease.exists()


def check_rows(report):
    assert report["status"] == "complete"
    assert report["rows_in"] == report["rows_out"] == 5000
    assert report["missing_rows"] == report["duplicate_rows"] == 0
