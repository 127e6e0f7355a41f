"""`cloudedge deploy`: the flows as deployments of a Prefect server that stays, their forms, and what tidies up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any

import yaml

from cloudedge import running
from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, StackError
from infra import settings
from infra.averaging import AVERAGES
from infra.placement import RULES
from infra.stack import servers, supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.flows import Flow

    from infra.registry import Registry

FROM_CATALOG = {"dataset": "datasets", "model": "models", "sites": "sites", "recipes": "recipes"}  # by parameter
PLUGINS: dict[str, Registry[Any]] = {"rule": RULES, "average": AVERAGES}
FREE = {("compress", "model")}  # a path will do too: of which flow, which parameter

# A run without a heartbeat this long is dead, and so is one that was handed out and never began. A server that is gone
# for minutes sees no heartbeats: it must not take a healthy run for dead when it comes back. A site may be cut off.
SILENT = timedelta(minutes=10)
SITE_SILENT = timedelta(hours=24)
OVER = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Cancelling")}
BEGUN = {f"prefect.flow-run.{state}" for state in ("Running", "Scheduled", "Late", "AwaitingConcurrencySlot")}


def deploy(file: Path, catalog: Sequence[Path]) -> None:
    """Apply a file of deployments to the server of `cloudedge up`, or to the configured one.

    Raises:
        BadInput: there is no such file, it is none of deployments, or no server stays.
        StackError: the server refuses it.
    """
    found = running.with_catalog(catalog)
    state = servers.read_state(found.home)
    if not state and not found.prefect_api_url:
        raise BadInput("no server stays that could keep deployments; `cloudedge up` first, or set PREFECT_API_URL")
    try:
        named: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]
        pools = sorted({deployment["work_pool"]["name"] for deployment in named})
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise BadInput(f"{file}: no file of deployments ({error}); name one with --file") from error
    settings.export(servers.variables(state, found) if state else servers.CLIENT_VARIABLES)
    from prefect.client.orchestration import get_client

    entries = Catalog(found.catalog_folders)
    workers = [name for name in entries.names("sites") if entries.site(name, "the catalog").dispatch == "worker"]
    with get_client(sync_client=True) as client:
        for pool in pools:
            make_pool(client, pool)
        _apply(file)
        for deployment in named:
            _offer(client, deployment["entrypoint"], deployment["name"], entries)
        for site in workers:
            deploy_site(client, site)
        tidy_up(client)
    for site in workers:
        sys.stdout.write(f"{site:<10} There: prefect worker start --pool {site_pool(site)} --type process\n")
    for deployment in named:
        sys.stdout.write(f"{deployment['name']:<10} {deployment['description']}\n")
    if state and state.prefect_url:
        supervisor.pools_file(found.home).write_text("".join(f"{pool}\n" for pool in pools))
        sys.stdout.write(f"`cloudedge up` runs a worker for them. Start one at {state.prefect_url}/deployments\n")
    else:
        for pool in pools:
            sys.stdout.write(f"Their runs wait for a worker: prefect worker start --pool {pool} --type process\n")


def site_pool(site: str) -> str:
    """The work pool of a site that has one of its own (`dispatch: worker`)."""
    return f"site-{site}"


def deploy_site(client: SyncPrefectClient, site: str) -> None:
    """A work pool for a site, and the flow that does its letters as a deployment of the site's name."""
    from cloudedge.site_letter import site_letter

    make_pool(client, site_pool(site))
    client.create_deployment(
        client.create_flow(site_letter),
        site,
        entrypoint="cloudedge.site_letter.site_letter",
        work_pool_name=site_pool(site),
        job_variables={"command": "python -m prefect.engine", "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
        parameter_openapi_schema=site_letter.parameters.model_dump(),
        description=f"What {site} is asked to do, by its own worker.",
    )


def make_pool(client: SyncPrefectClient, name: str) -> None:
    """A work pool of processes, unless it is there."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        return


def _apply(file: Path) -> None:
    """`prefect deploy`, from an empty folder: what it finds in the working directory would become part of it."""
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(file.absolute()),
    ]
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["nothing"]
        raise StackError(f"`prefect deploy` of {file} ended with {done.returncode}; it said {said[-1].strip()!r}")


def _offer(client: SyncPrefectClient, entrypoint: str, name: str, catalog: Catalog) -> None:
    """Put the parameters' descriptions, and names to choose from, into the form of a deployment."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.flows import load_flow_from_entrypoint

    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
    deployed = client.read_deployment_by_name(f"{flow.name}/{name}")
    client.update_deployment(deployed.id, DeploymentUpdate(parameter_openapi_schema=form(flow, catalog).model_dump()))


def form(flow: Flow[..., Any], catalog: Catalog) -> Any:
    """What Prefect makes of a flow's signature, with what it leaves out: descriptions, and names to choose from.

    Prefect reads a parameter's description from a docstring alone, not from its `Field`.
    """
    made = flow.parameters.model_copy(deep=True)
    for name, parameter in signature(flow.fn, eval_str=True).parameters.items():
        shown = made.properties[name]
        for note in getattr(parameter.annotation, "__metadata__", ()):
            if getattr(note, "description", None):
                shown["description"] = note.description
        if name in FROM_CATALOG.keys() | PLUGINS.keys() and (flow.name, name) not in FREE:
            names = PLUGINS[name].names() if name in PLUGINS else catalog.names(FROM_CATALOG[name])
            if shown.get("type") == "array":
                shown["items"] |= {"enum": names}
            elif isinstance(default := shown.get("default"), str) and default not in names:
                shown["enum"] = [default, *names]
            else:
                shown["enum"] = names
    return made


def tidy_up(client: SyncPrefectClient, silent: timedelta = SILENT, site_silent: timedelta = SITE_SILENT) -> None:
    """Make the automations that call a run crashed which was killed outright, so that its slot is free again.

    A flow run of a site says nothing while the site is cut off, and works on: it has a bound of its own.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    beat = "prefect.flow-run.heartbeat"
    for name, flows, after, expect, within in (
        ("silent runs are crashed", "!site", beat, OVER | {beat}, silent),
        ("silent sites are crashed", "site", beat, OVER | {beat}, site_silent),
        ("runs that never began are crashed", "!site", "prefect.flow-run.Pending", OVER | BEGUN, silent),
        ("sites that never began are crashed", "site", "prefect.flow-run.Pending", OVER | BEGUN, site_silent),
    ):
        wanted = AutomationCore(
            name=f"cloudedge: {name}",
            trigger=EventTrigger(
                after={after},
                expect=expect,
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": flows}),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=within,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"nothing was heard of it for {within}")],
        )
        known = client.read_automations_by_name(wanted.name)
        if known:
            client.update_automation(known[0].id, wanted)
        else:
            client.create_automation(wanted)
