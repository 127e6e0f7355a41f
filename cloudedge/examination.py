"""`cloudedge doctor`: try every part for real, one line each, with what to do about one that fails."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, CloudEdgeError, StackError, StoreFull
from infra import settings
from infra.stack import servers, using_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Settings

LEAST_FREE_BYTES = 2 << 30


def examine() -> int:
    """Print a line a part; 0 if all are well, else the exit code of the first that is not."""
    console = Console(highlight=False)
    codes: list[int] = []

    def check(name: str, part: Callable[[], str]) -> None:
        try:
            console.print(f"[green]ok[/]    {name}: {part()}", soft_wrap=True)
        except CloudEdgeError as error:
            codes.append(error.exit_code)
            console.print(f"[red]fails[/] {name}: {error}", soft_wrap=True)

    try:
        found = settings.read_settings()
    except CloudEdgeError as error:
        console.print(f"[red]fails[/] settings: {error}", soft_wrap=True)
        return error.exit_code
    check("python", _python)
    check("catalog", lambda: _catalog(found))
    check("policy", lambda: _policy(found))
    check("disk", lambda: _disk(found))
    check("edge runtime", lambda: f"LiteRT {_runtime('litert')}")
    check("training and cloud runtime", _tensorflow)
    try:
        with using_stack(found):
            current = settings.read_settings()
            check("store", lambda: _store(current, found))
            check("coordinators", lambda: _coordinators(current))
            check("prefect", lambda: _prefect(current, found))
            check("dask", lambda: _dask(current))
    except CloudEdgeError as error:
        codes.append(error.exit_code)
        console.print(f"[red]fails[/] local stack: {error}", soft_wrap=True)
    return codes[0] if codes else 0


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise BadInput(f"Python {sys.version.split()[0]} is not supported; use 3.11, 3.12 or 3.13")
    return sys.version.split()[0]


def _catalog(found: Settings) -> str:
    from infra.compression import checked

    entries = Catalog(found.catalog_folders)
    load: dict[str, Callable[[str], object]] = {
        "datasets": entries.dataset,
        "models": entries.model,
        "recipes": lambda name: checked(entries.recipe(name), f"recipe {name}"),
        "sites": entries.site,
    }
    return ", ".join(f"{len([read(name) for name in entries.names(kind)])} {kind}" for kind, read in load.items())


def _policy(found: Settings) -> str:
    from infra.security import policy

    read = policy.read_policy(found.policy or policy.SHIPPED)
    who, roles = policy.user(found)
    return f"{len(read.rules)} rules of {read.name}; this user is {', '.join((who, *roles))}"


def _disk(found: Settings) -> str:
    try:
        found.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(found.home).free
    except OSError as error:
        raise StoreFull(
            f"{found.home} cannot be used ({error}); set CLOUDEDGE_HOME to a folder that you can write"
        ) from error
    if free < LEAST_FREE_BYTES:
        raise StoreFull(
            f"only {free >> 20} MiB are free at {found.home}; free some space, or set CLOUDEDGE_HOME elsewhere"
        )
    return f"{free >> 30} GiB free at {found.home}"


def _runtime(name: str) -> str:
    from infra.runtimes import RUNTIMES

    return RUNTIMES.get(name).version()


def _tensorflow() -> str:
    if importlib.util.find_spec("tensorflow") is None:
        return "not installed (an edge site needs none; to train or to be the cloud: pip install 'cloudedge[cloud]')"
    return f"TensorFlow {_runtime('tensorflow')}"


def _store(current: Settings, found: Settings) -> str:
    from infra.storage import open_store

    open_store(current.bucket).check()
    whose = "as configured" if found.bucket else "local"
    return f"bucket {current.bucket} at {current.endpoint_url or 'AWS'} can be listed, written and read ({whose})"


def _coordinators(current: Settings) -> str:
    from infra.agreement import AGREEMENTS
    from infra.coordination import way

    if current.coordinators == 1:
        return "one"
    AGREEMENTS.get(way(current)).connect(current)
    return f"{current.coordinators}, which agree over {way(current)}"


def _prefect(current: Settings, found: Settings) -> str:
    url = str(current.prefect_api_url)
    if not servers.answers(f"{url}/health", current.prefect_api_auth or ""):
        raise StackError(
            f"the Prefect server at {url} gave no answer; start it, or unset PREFECT_API_URL to use a local one"
        )
    return f"{url} answers ({'as configured' if found.prefect_api_url else 'local'})"


def _dask(current: Settings) -> str:
    from infra import compute

    answers: list[int] = []
    compute.map_blocks(abs, [-1, -2], threads=1, address=current.dask_address, done=answers.append)
    return f"{len(answers)} of 2 calls came back from {current.dask_address or 'threads in the process'}"
