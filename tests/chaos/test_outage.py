"""Prefect's server is killed in the middle of a run, and is gone for a while: no work is lost, and the run ends right."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from flows.collaborate import collaborate
from infra.settings import Settings
from infra.stack import servers

pytestmark = pytest.mark.chaos

# Two minutes take too long for each commit. A client tries again after 2, 6, 14, 30, 62, 126 and 254 s, so with 120 this
# test takes about five minutes.
OUTAGE_SECONDS = float(os.environ.get("CHAOS_OUTAGE_SECONDS", "10"))


@pytest.fixture
def prefect(tmp_path):
    """A Prefect server alone, as `cloudedge up` starts it, that a test may kill."""
    alone = Settings(
        home=tmp_path,
        bucket="elsewhere",
        endpoint_url=None,
        prefect_api_url=None,
        dask_address=None,
        catalog_folders=(),
    )
    with servers.running(alone) as up:
        up.wait()
        yield up


def holding_a_slot(client) -> tuple[object, str]:
    """A flow run that was handed out and holds the one slot of its deployment, and its lease."""
    flow = client.create_flow(collaborate)
    deployment = client.create_deployment(
        flow, "limited", entrypoint="flows.collaborate.collaborate", concurrency_limit=1,
        concurrency_options=ConcurrencyLimitConfig(limit=1).model_dump(include={"collision_strategy"}),
    )  # fmt: skip
    run = client.create_flow_run_from_deployment(deployment)
    state = client.set_flow_run_state(run.id, Pending()).state
    return run.id, str(state.state_details.deployment_concurrency_lease_id)


def test_a_server_that_is_gone_in_the_middle_of_a_run(up_home, quick_run, prefect):
    here = {
        "PREFECT_API_URL": f"{prefect.state.prefect_url}/api",
        "PREFECT_API_AUTH_STRING": prefect.state.prefect_auth,
    }
    settings = {PREFECT_API_URL: here["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: here["PREFECT_API_AUTH_STRING"]}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        held, lease = holding_a_slot(client)

    process = up_home.start("run", "--model", "quick", "--dataset", "many-shards", "--json", **here)
    for line in process.stderr:
        if line.startswith("infer"):
            break
    prefect.processes["prefect"].kill()
    prefect.processes["prefect"].wait()
    assert process.poll() is None, "the run ended before its server could be killed"
    time.sleep(OUTAGE_SECONDS)
    servers.restart(prefect, "prefect")
    prefect.wait()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["status"] == "complete"
    assert report["rows_in"] == report["rows_out"] == 5000
    assert report["missing_rows"] == report["duplicate_rows"] == 0

    with temporary_settings(settings), get_client(sync_client=True) as client:
        runs = {run.id: run for run in client.read_flow_runs() if run.id != held}
        assert len(runs) >= 4, "the job, and a sub-flow for each site"
        assert {run.state.name for run in runs.values()} == {"Completed"}
        # In memory the lease would be gone, and whoever holds it be called crashed although it works.
        answer = client._client.post(f"/v2/concurrency_limits/leases/{lease}/renew", json={"lease_duration": 60})
        assert answer.status_code == httpx.codes.NO_CONTENT
    assert list((Path(prefect.home) / "prefect" / "concurrency_leases").glob("*.json"))
