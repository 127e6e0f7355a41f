"""The deployments load what they name, are offered as a person can fill them in, and run on the real server."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.flows import Flow, load_flow_from_entrypoint

from cloudedge.deploying import FREE, FROM_CATALOG, form
from data_catalog.catalog import Catalog
from flows.collaborate import collaborate
from flows.fulfil import fulfil
from tests.homes import Home, wait_for

pytestmark = pytest.mark.integration

FILE = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
READ = yaml.safe_load(FILE.read_text())
DEPLOYMENTS = READ["deployments"]
FLOWS = {path.stem for path in (FILE.parents[1] / "flows").glob("[!_]*.py")}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_its_entry_point_is_a_flow(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert isinstance(flow, Flow)
    for name in deployment.get("parameters", {}):
        assert name in flow.parameters.properties


def test_every_flow_is_a_deployment():
    assert {deployment["entrypoint"] for deployment in DEPLOYMENTS} == {f"flows.{stem}.{stem}" for stem in FLOWS}


def test_a_schedule_does_not_pile_up():
    for deployment in DEPLOYMENTS:
        if "schedules" in deployment:
            assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_its_form_says_what_to_fill_in(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    catalog, before = Catalog(()), flow.parameters.model_dump()
    offered = form(flow, catalog)
    assert flow.parameters.model_dump() == before
    for name, shown in offered.properties.items():
        assert shown.get("description"), f"{flow.name}: {name}"
        if name in FROM_CATALOG and (flow.name, name) not in FREE:
            names = set(catalog.names(FROM_CATALOG[name]))
            assert names <= set(shown.get("enum") or shown["items"]["enum"])
    if "objective" in offered.properties:
        assert "makespan" in offered.properties["objective"]["enum"]
    if "rule" in offered.properties:
        assert "programme" in offered.properties["rule"]["enum"]


def test_deploying_wants_a_server_that_stays(tmp_path):
    assert "cloudedge up" in Home(tmp_path, {}).call("deploy", code=2).stderr


def test_deploying_names_a_file_that_is_none(up_home, tmp_path):
    (tmp_path / "other.yaml").write_text("name: nothing\n")
    said = up_home.call("deploy", "--file", str(tmp_path / "other.yaml"), code=2).stderr
    assert str(tmp_path / "other.yaml") in said


def test_what_is_deployed(deployed_home, prefect_client):
    """As the file says, on a server that reads its own database: a broken pin shows here."""
    ours = [each for each in prefect_client.read_deployments() if each.work_pool_name == "cloudedge"]
    deployed = {deployment.name: deployment for deployment in ours}
    assert set(deployed) == {deployment["name"] for deployment in DEPLOYMENTS}
    run = deployed["run"].parameter_openapi_schema["properties"]
    assert {"mnist-5k", "many-shards"} <= set(run["dataset"]["enum"]), "the catalog's names, those of one's own too"
    assert {"digits", "quick"} <= set(run["model"]["enum"])
    assert "cloud" in run["sites"]["items"]["enum"]
    nightly = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployed["nightly"].id]))
    wait_for("a scheduled run", lambda: [
        run for run in prefect_client.read_flow_runs(flow_run_filter=nightly)
        if run.state is not None and run.state.is_scheduled()
    ], 60)  # fmt: skip


def test_the_worker_of_up_does_a_run_in_an_empty_folder(deployed_home, prefect_client, up_store):
    """Started as the UI starts it. What it imports is installed: there is nothing in its folder."""
    deployment = prefect_client.read_deployment_by_name("maintain/maintain")
    started = prefect_client.create_flow_run_from_deployment(deployment.id, parameters={"delete": False})
    seen: dict[Path, list[Path]] = {}

    def ended():
        with suppress(psutil.Error, FileNotFoundError):  # it ends while it is looked at
            for process in children_of_worker(deployed_home):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == str(started.id):
                    seen.setdefault(Path(process.cwd()), []).extend(Path(process.cwd()).iterdir())
        return (run := prefect_client.read_flow_run(started.id)).state.is_final() and run

    run = wait_for("its end", ended, 120)
    assert run.state.is_completed(), run.state.message
    assert len(seen) == 1, "a run has one folder"
    (folder,) = seen
    assert not seen[folder], "it began in a folder with something in it, or left something there"
    wait_for("its removal", lambda: not folder.exists())


def children_of_worker(home: Home) -> list[psutil.Process]:
    """All processes that the worker of `cloudedge up` has started."""
    (worker,) = [process for process in home.servers() if "worker" in process.cmdline()]
    return worker.children(recursive=True)


def test_a_name_that_the_catalog_lacks_is_refused_before_it_runs(deployed_home, prefect_client):
    from prefect.exceptions import PrefectHTTPStatusError

    deployment = prefect_client.read_deployment_by_name("collaborate/run")
    with pytest.raises(PrefectHTTPStatusError, match="409"):
        prefect_client.create_flow_run_from_deployment(deployment.id, parameters={"model": "no-such"})


@pytest.fixture
def quick_automations(deployed_home, prefect_client):
    """The automations of `cloudedge deploy` with bounds of seconds; as they were, afterwards."""
    from cloudedge.deploying import tidy_up

    tidy_up(prefect_client, timedelta(seconds=10), timedelta(hours=1))
    yield
    tidy_up(prefect_client)


def test_a_run_of_which_nothing_is_heard_is_crashed_and_a_site_is_spared(quick_automations, prefect_client):
    """Heartbeats as Prefect's engine sends them, of runs that nobody does: as after `kill -9` of the whole machine."""
    from prefect.events import emit_event
    from prefect.states import Pending, Running

    runs = {}
    for name, flow, parameters in (("collaborate", collaborate, {}), ("site", fulfil, {"order_key": "-"})):
        runs[name] = prefect_client.create_flow_run(flow, parameters=parameters)
        prefect_client.set_flow_run_state(runs[name].id, Running())
        emit_event(
            "prefect.flow-run.heartbeat",
            resource={"prefect.resource.id": f"prefect.flow-run.{runs[name].id}", "prefect.resource.name": name},
            related=[{
                "prefect.resource.id": f"prefect.flow.{runs[name].flow_id}", "prefect.resource.role": "flow",
                "prefect.resource.name": name,
            }],
        )  # fmt: skip
    given_out = prefect_client.create_flow_run(collaborate)  # and its worker died before it began
    prefect_client.set_flow_run_state(given_out.id, Pending())
    crashed = wait_for(
        "the automation",
        lambda: (run := prefect_client.read_flow_run(runs["collaborate"].id)).state.is_crashed() and run,
    )
    assert "nothing was heard of it" in crashed.state.message
    assert prefect_client.read_flow_run(runs["site"].id).state.is_running()
    wait_for("the other automation", lambda: prefect_client.read_flow_run(given_out.id).state.is_crashed())
    for run in (*runs.values(), given_out):
        prefect_client.delete_flow_run(run.id)
