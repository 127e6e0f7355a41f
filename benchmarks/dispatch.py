"""Seconds from handing over an order to the site's first line of work, by way of dispatch.

Each way is asked several times, at a random moment of its pauses. A letter is what a site is asked; the order that it
names does not exist, so that the site answers at once that it failed, and says when it began. Ways: a sub-flow in the
process; the mailbox, polled by `cloudedge site work`; a Prefect worker as `cloudedge deploy` sets it up, and as Prefect does
by itself (it asks every ten seconds, and starts two interpreters for each run); Prefect's `serve()`, which asks every second.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _results
from benchmarks._results import Target
from data_catalog.errors import CloudEdgeError, ObjectMissing
from data_catalog.nouns import Site
from data_catalog.orders import Answered
from infra import keys, settings
from infra.stack import servers
from infra.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIGGERS = int(os.environ.get("TRIGGERS", "5"))
SECONDS = 240.0
TARGETS = {
    "mailbox_over_worker": Target(0.5, at_least=False),
    "worker_over_prefects_worker": Target(0.75, at_least=False),
}
# `serve()` sends the flow to its interpreter by value, where the types of its parameters are not known; so it is this one.
SERVE = """\
from prefect import flow

@flow(name="site")
def served(site, letter):
    from cloudedge.site_letter import site_letter
    from data_catalog.orders import Letter
    site_letter.fn(site, Letter.model_validate(letter))

if __name__ == "__main__":
    served.serve(name="served", limit=1)
"""


@contextmanager
def program(*command: str, **more: str) -> Iterator[None]:
    """A program that runs as long as the block; Prefect's heed SIGTERM only if they do not ignore SIGINT."""
    process = subprocess.Popen(
        command, env=settings.inherited() | more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        time.sleep(20)  # it imports much, and tells the server that it is there
        yield
    finally:
        process.terminate()
        process.wait(60)


def ask(site: Site, number: int) -> float:
    """Seconds from handing over to the first line."""
    from tasks.ask_site import ask_site

    name = f"order-{number}"
    begun = time.time()
    try:
        ask_site(site, "prepare", "no/such/order", site.name, name, SECONDS, servers.BUCKET)
    except CloudEdgeError as error:
        try:
            answer = open_store(servers.BUCKET).get(keys.run(site.name, "answers", f"{name}.json"))
        except ObjectMissing:
            raise error from None  # it says why there is none
    return Answered.model_validate_json(answer).began - begun


def embedded(site: Site, number: int) -> float:
    """The same for a sub-flow in this process."""
    from prefect import flow

    here = flow(name="site")(lambda: time.time())
    begun = time.time()
    return float(here()) - begun


def several(way: Callable[[Site, int], float], site: Site) -> list[float]:
    """What it takes, several times, sorted."""
    seconds = []
    for number in range(TRIGGERS + 1):
        time.sleep(random.uniform(0, 2))
        seconds.append(way(site, number))
    return sorted(seconds[1:])  # the first finds caches cold


def until_deployed(name: str) -> None:
    """Wait until there is such a deployment: `serve()` makes its own."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for _ in range(int(SECONDS)):
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                time.sleep(1)
            else:
                return


def measure() -> dict[str, list[float]]:
    """By way, the seconds."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from cloudedge.deploying import deploy_site, site_pool

    def site(name: str, dispatch: str) -> Site:
        return Site.model_validate(
            {"name": name, "tier": "edge", "threads": 1, "description": "-", "dispatch": dispatch}
        )

    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    worker = (sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--install-policy", "never")
    found: dict[str, list[float]] = {}
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        found["embedded"] = several(embedded, site("here", "embedded"))
    with program(sys.executable, "-m", "cloudedge", "site", "work", "post"):
        found["mailbox"] = several(ask, site("post", "mailbox"))
    with get_client(sync_client=True) as client:
        for name in ("ours", "stock"):
            deploy_site(client, name)
        from prefect.client.schemas.actions import DeploymentUpdate

        stock = client.read_deployment_by_name("site/stock")
        client.update_deployment(stock.id, DeploymentUpdate(job_variables={}))
    with program(*worker, "--pool", site_pool("ours"), PATH=bin_first, PREFECT_WORKER_QUERY_SECONDS="1"):
        found["worker"] = several(ask, site("ours", "worker"))
    with program(*worker, "--pool", site_pool("stock"), PATH=bin_first):
        found["prefects_worker"] = several(ask, site("stock", "worker"))
    script = settings.read_settings().home / "serve.py"
    script.write_text(SERVE)
    with program(sys.executable, str(script), PREFECT_RUNNER_POLL_FREQUENCY="1"):
        until_deployed("site/served")
        found["serve"] = several(ask, site("served", "worker"))
    return found


def main() -> None:
    """Start a stack of its own, measure all ways, and write the block of the page."""
    measured = _results.commit()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        alone = settings.Settings(
            home=home, bucket=None, endpoint_url=None, prefect_api_url=None, dask_address=None, catalog_folders=()
        )
        with servers.running(alone) as up:
            up.wait()
            settings.export(servers.variables(up.state, alone) | {"CLOUDEDGE_HOME": str(home)})
            found = measure()
    metrics: dict[str, float | bool | None] = {f"seconds_{way}": statistics.median(all_) for way, all_ in found.items()}
    metrics["mailbox_over_worker"] = (metrics["seconds_mailbox"] or 0) / (metrics["seconds_worker"] or 1)
    metrics["worker_over_prefects_worker"] = (metrics["seconds_worker"] or 0) / (
        metrics["seconds_prefects_worker"] or 1
    )
    lines = [
        f"Medians of {TRIGGERS}, and between which they lay: "
        + ", ".join(f"{way} {all_[0]:.2g} to {all_[-1]:.2g} s" for way, all_ in found.items())
        + ".",
    ]
    _results.write("dispatch", metrics, TARGETS, lines, measured)
    for line in _results.table(metrics, TARGETS):
        print(line)


if __name__ == "__main__":
    main()
