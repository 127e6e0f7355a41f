"""The commands that need the stack: `run`, `up`, `down`; and how a flow is called."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cloudedge import terminal
from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, StackError, StoreFull, UnknownName
from infra import ration, settings
from infra.demands import read_demands
from infra.security import policy
from infra.stack import servers, using_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from data_catalog.nouns import Report
    from infra.settings import Settings

Done = TypeVar("Done")
PARTIAL = 3  # exit code of a command that ended well, but not with everything


def run(
    dataset: str,
    model: str,
    sites: Sequence[str],
    bound: float,
    confidence: float,
    escalate_at_most: Sequence[str],
    deadline: str,
    replan: bool,
    elastic: bool,
    catalog: Sequence[Path],
    as_json: bool,
    demands: Mapping[str, Any],
) -> int:
    """Run `collaborate` and show its report.

    Returns:
        The exit code.

    Raises:
        CloudEdgeError: what stopped it; nothing is started for bad input.
    """
    budget = ration.read_budget(escalate_at_most)
    if deadline:
        ration.read_seconds(deadline, "--deadline")
    read_demands(**demands)
    found = with_catalog(catalog)
    entries = Catalog(found.catalog_folders)
    entries.dataset(entries.model(model, "--model").trained_on, f"model {model}, key `trained_on`")
    batch = entries.dataset(dataset, "--dataset")
    try:
        where = entries.sites(sites, batch, "--site")
    except UnknownName:
        if not found.bucket and not servers.read_state(found.home):
            raise
        # a site that joined is known to the store alone: the flow asks it
    else:
        policy.authorise("run", batch, where)
        ration.require_edges(budget, [site.name for site in where if site.tier == "edge"], "--escalate-at-most")
    with stack_for(found, _load_flow):
        from flows.collaborate import collaborate
        from infra import settlement
        from infra.storage import open_store

        before = settlement.unsettled_runs(open_store())
        given = (dataset, model, tuple(sites), bound, confidence, tuple(escalate_at_most))
        report = call_flow(collaborate, *given, deadline=deadline, replan=replan, elastic=elastic, **demands)
        files = keep(report, found.home)
        for settled in set(before) - set(settlement.unsettled_runs(open_store())):
            keep(settlement.read_report(open_store(), settled), found.home)
    show(report, files, as_json)
    return PARTIAL if report.status == "partial" else 0


def show(report: Report, page: Path, as_json: bool) -> None:
    """Print a report, as JSON or for people."""
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        terminal.show_report(report, page)


def _load_flow() -> None:
    import flows.collaborate  # noqa: F401


def with_catalog(catalog: Sequence[Path]) -> Settings:
    """The settings, with these folders before the others of the catalog, for the flow too."""
    if catalog:
        folders = [folder.absolute() for folder in catalog] + list(settings.read_settings().catalog_folders)
        settings.export({"CLOUDEDGE_CATALOG": os.pathsep.join(map(str, folders))})
    return settings.read_settings()


@contextmanager
def stack_for(found: Settings, load_flow: Callable[[], None]) -> Iterator[None]:
    """The store and Prefect, with progress on the screen and what libraries say in a log; the flow is loaded meanwhile."""
    servers.prepare_home(found.home)
    with terminal.quiet(found.home / "logs" / "run.log") as screen, terminal.progress(to=screen) as show:
        show("starting the store and Prefect")
        with using_stack(found, meanwhile=load_flow):
            yield


def call_flow(flow: Callable[..., Done], *arguments: object, **named: object) -> Done:
    """Call a flow in this process, without the heartbeat that would make it wait on its end.

    Raises:
        BadInput: the Prefect server refused us.
        StackError: it gave no answer, or failed.
        CloudEdgeError: what stopped the flow.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            return flow(*arguments, **named)
        except PrefectHTTPStatusError as error:
            code = error.response.status_code
            if code in {401, 403}:
                raise BadInput(
                    f"the Prefect server at {PREFECT_API_URL.value()} refused us ({code}); set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
                ) from error
            raise StackError(
                f"the Prefect server at {PREFECT_API_URL.value()} failed ({code}); look at its log and run again"
            ) from error
        except (httpx.TransportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "reach API" not in str(error):
                raise
            raise StackError(
                f"the Prefect server at {PREFECT_API_URL.value()} gave no answer; start it, or unset PREFECT_API_URL"
                " to use a local one; what was computed is kept"
            ) from error
        finally:
            _send_logs()


def _send_logs() -> None:
    """Deliver what Prefect's client has logged, else the page of a run lacks its last seconds: the server stops."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


def keep(report: Report, home: Path) -> Path:
    """Copy the report out of the store, so that it can be opened when the store is down; the page's path."""
    from infra.keys import run as run_key
    from infra.storage import open_store

    store = open_store()
    folder = home / "runs" / report.run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("report.json", "report.html"):
            (folder / name).write_bytes(store.get(run_key(report.run_id, name)))
    except OSError as error:
        raise StoreFull(
            f"{folder} cannot be written ({error}); the report is in the store as {report.report_key}"
        ) from error
    return folder / "report.html"


def up() -> None:
    """Start the local stack, or say that it runs, and where."""
    found = settings.read_settings()
    state = servers.read_state(found.home)
    if not state:
        if found.bucket and found.prefect_api_url:
            raise BadInput(
                "CLOUDEDGE_BUCKET and PREFECT_API_URL are set, so there is nothing to start; unset one to start a local part"
            )
        with terminal.progress(to=sys.stderr) as show:
            show("starting the store and Prefect")
            state = servers.start_supervisor(found)
    if state.prefect_url:
        sys.stdout.write(
            f"Prefect UI: {state.prefect_url}\n  password: the key `prefect_auth` of {found.home / 'credentials.json'}\n"
        )
    if state.s3_url:
        sys.stdout.write(f"S3 store:   {state.s3_url}, bucket {servers.BUCKET}\n  keys: in the same file\n")
    sys.stdout.write("Runs use them until `cloudedge down`.\n")


def down() -> None:
    """Stop the local stack."""
    stopped = servers.stop_supervisor(settings.read_settings().home)
    sys.stdout.write("stopped\n" if stopped else "nothing was running\n")
