"""The deployments of this repository on a Prefect server that a test may kill, with workers and runs that it may kill too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from infra.settings import Settings
from infra.stack import servers
from tests.held_engine import mark
from tests.homes import BIN, MANY_SHARDS, Home, environment, wait_for

ROOT = Path(__file__).parents[1]
# Rows in a shard: 7, 4, 3 or 2 shards of each site, so that none has a shard of another, or of other tests. Each is run by
# one test alone: what the ledger holds is not read, and so not held.
DATASETS = {"held-a": 400, "held-b": 700, "held-c": 900, "held-d": 1300}


@dataclass(frozen=True)
class Deployed:
    """The server, a client of it, and the home of those who use it."""

    up: servers.Running
    client: SyncPrefectClient
    home: Home

    def start(self, deployment: str, dataset: str, held: Path | None = None) -> FlowRun:
        """A flow run as the UI starts it.

        Args:
            deployment: of the flow `collaborate`.
            dataset: that it answers.
            held: before it reads a shard it waits for this file; None: it does not.
        """
        found = self.client.read_deployment_by_name(f"collaborate/{deployment}")
        return self.client.create_flow_run_from_deployment(
            found.id, parameters={"dataset": dataset, "model": "quick"},
            job_variables={"command": f"python -m tests.held_engine {held}"} if held else {},
        )  # fmt: skip

    def state(self, run: FlowRun) -> Any:
        """What the server says of it now."""
        return self.client.read_flow_run(run.id).state

    def slots(self, deployment: str) -> int:
        """How many of the deployment's slots are taken."""
        limit = self.client.read_deployment_by_name(f"collaborate/{deployment}").global_concurrency_limit
        assert limit
        return limit.active_slots

    def restart(self) -> None:
        """Start the server again, after it was killed."""
        servers.restart(self.up, "prefect")
        self.up.wait()

    @contextmanager
    def worker(self, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of the deployments' pool, on a machine of its own, until the end of the block or its death."""
        folder = self.home.path / name
        folder.mkdir()
        own = environment(folder, **self.home.variables | {
            "PREFECT_HOME": str(folder / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1", "PYTHONPATH": str(ROOT),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        })  # fmt: skip
        command = ["prefect", "worker", "start", "--pool", "cloudedge", "--type", "process", "--name", name]
        command = [sys.executable, "-m", *command, "--install-policy", "never", *options]
        with (folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(command, env=own, cwd="/", stdout=log, stderr=log)
        try:
            yield process
        finally:
            kill_outright(process)


@contextmanager
def deployed(folder: Path, store: dict[str, str], catalog: Path) -> Iterator[Deployed]:
    """Start the server and apply the deployments.

    Args:
        folder: for the homes of the server and of the workers.
        store: variables of the store that is used.
        catalog: with the model `quick`; gets the datasets that are run.
    """
    mine = folder / "catalog" / "datasets"
    mine.mkdir(parents=True)
    for name, rows in DATASETS.items():
        (mine / f"{name}.yaml").write_text(MANY_SHARDS.replace("shard_rows: 40", f"shard_rows: {rows}"))
    alone = Settings(
        home=folder / "server", bucket="elsewhere", endpoint_url=None, prefect_api_url=None, dask_address=None,
        catalog_folders=(),
    )  # fmt: skip
    with servers.running(alone) as up:
        up.wait()
        api, auth = f"{up.state.prefect_url}/api", up.state.prefect_auth
        shared = {name: value for name, value in store.items() if not name.startswith("CLOUDEDGE_HOME")}
        home = Home(folder, shared | servers.CLIENT_VARIABLES | {
            "PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": auth, "PREFECT_HOME": str(folder / "client"),
            "CLOUDEDGE_CATALOG": f"{catalog}{os.pathsep}{mine.parent}",
        })  # fmt: skip
        home.call("deploy", "--file", str(ROOT / "deployments" / "prefect.yaml"))
        here = {PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: auth}
        with temporary_settings(here), get_client(sync_client=True) as client:
            yield Deployed(up, client, home)


def waits(held: Path) -> None:
    """Until the flow run that is held by the file is at its first shard."""
    wait_for(f"{held.name}'s first shard", mark(held).exists, 240)


def kill_outright(process: subprocess.Popen[bytes]) -> None:
    """A worker first, so that it cannot say what became of its runs, then all that it had started."""
    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
