"""The deployments load what they name, and a scheduled run appears on the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.flows import Flow, load_flow_from_entrypoint

from tests.homes import environment, wait_for

pytestmark = pytest.mark.integration

FILE = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
DEPLOYMENTS = yaml.safe_load(FILE.read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_its_entry_point_is_a_flow(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert isinstance(flow, Flow)
    for name in deployment.get("parameters", {}):
        assert name in flow.parameters.properties


def test_the_nightly_run_is_scheduled(up_home, up_variables, prefect_client, tmp_path):
    """Deployed as the file says, on a server that reads its own database: a broken pin shows here."""
    variables = environment(up_home.path, **{k: v for k, v in up_variables.items() if k != "CLOUDEDGE_HOME"})
    for arguments in (
        ["work-pool", "create", "cloudedge", "--type", "process"],
        ["--no-prompt", "deploy", "--prefect-file", str(FILE), "--all"],
    ):
        command = [sys.executable, "-m", "prefect", *arguments]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    deployed = {deployment.name: deployment for deployment in prefect_client.read_deployments()}
    assert set(deployed) == {deployment["name"] for deployment in DEPLOYMENTS}
    wait_for("a scheduled run", lambda: [
        run for run in prefect_client.read_flow_runs()
        if run.deployment_id == deployed["nightly"].id and run.state is not None and run.state.is_scheduled()
    ], 60)  # fmt: skip
