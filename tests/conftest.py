"""Real parts that tests share: a catalog, homes, servers that run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.homes import BIN, MANY_SHARDS, QUICK_MODEL, Home

ROOT = Path(__file__).parents[1]

# Hypothesis looks for wrong answers, not for slow ones. It draws the same examples each time, so that a commit that
# passed does not fail elsewhere; `--hypothesis-profile=search` draws others, to find what they miss.
FIXED = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
settings.register_profile("search", FIXED, derandomize=False)
settings.register_profile("fixed", FIXED)
settings.load_profile("fixed")

SHARED = ("up_home", "fresh_home")  # fixtures that cost a minute, made once a session
SLOWEST = ("chaos", "e2e", "integration")
# Together as long as all the others: `make test-long` runs these and no others, `make test` the others; `-m` all of a kind.
LONG = (
    "chaos/test_agreement.py", "chaos/test_deployed_runs.py",
    "chaos/test_kill.py", "chaos/test_outage.py", "chaos/test_site_processes.py", "e2e/test_agreement.py",
    "e2e/test_behind_nat.py", "e2e/test_joined_site.py", "e2e/test_lab.py", "e2e/test_offline_site.py", "e2e/test_reconcile.py",
    "e2e/test_replanning.py", "e2e/test_servers_end.py", "e2e/test_ui.py",
    "integration/test_nginx.py", "integration/test_postgres.py",
)  # fmt: skip

LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: the tests that take long, and no others."""
    parser.addoption("--long", action="store_true", help="run the tests of LONG in tests/conftest.py, and no others")


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """Say what is left out."""
    left = config.stash.get(LEFT_OUT, [])
    if config.getoption("--long"):
        return f"left out: {len(left)} files that `pytest` runs without --long"
    return f"left out, as they take long: {', '.join(left)}; `pytest --long` runs these" if left else ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For several workers at once: who shares a costly fixture shares a worker, as does a file; the slow ones come first."""
    long, alone = config.getoption("--long"), len({item.path for item in items}) == 1
    if long or not (config.option.markexpr or alone):  # a kind that is asked for, or a file, is run whole
        left = [item for item in items if str(item.path).endswith(LONG) != long]
        config.hook.pytest_deselected(items=left)
        config.stash[LEFT_OUT] = sorted({item.path.name for item in left})
        items[:] = [item for item in items if str(item.path).endswith(LONG) == long]
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in SLOWEST))
    for item in items:
        needs = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
        item.add_marker(pytest.mark.xdist_group(needs[0] if needs else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def quick_catalog(tmp_path_factory) -> Path:
    """A catalog folder with the model and the dataset of the tests."""
    folder = tmp_path_factory.mktemp("catalog")
    for kind, name, text in (("models", "quick", QUICK_MODEL), ("datasets", "many-shards", MANY_SHARDS)):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def fresh_home(tmp_path_factory, quick_catalog) -> Home:
    """A home whose runs start their own servers; it has run the quick model once."""
    home = Home(tmp_path_factory.mktemp("fresh"), {"CLOUDEDGE_CATALOG": str(quick_catalog)})
    assert home.run("--model", "quick")["status"] == "complete"
    return home


@pytest.fixture(scope="session")
def up_home(tmp_path_factory, quick_catalog):
    """A home whose servers run (`cloudedge up`) for all tests that ask for it, and its first run's report."""
    home = Home(tmp_path_factory.mktemp("up"), {"CLOUDEDGE_CATALOG": str(quick_catalog)})
    home.call("up")
    try:
        yield home
    finally:
        home.call("down")
        assert not home.servers()


@pytest.fixture(scope="session")
def deployed_home(up_home) -> Home:
    """The same, with the deployments of this repository, and the worker that `cloudedge up` starts for them."""
    up_home.call("deploy", "--file", str(ROOT / "deployments" / "prefect.yaml"))
    return up_home


@pytest.fixture(scope="session")
def up_variables(up_home) -> dict[str, str]:
    """What a program needs to use that home's servers directly."""
    from infra.settings import Settings
    from infra.stack import servers

    state = servers.read_state(up_home.path)
    assert state
    none = Settings(
        home=up_home.path, bucket=None, endpoint_url=None, prefect_api_url=None, dask_address=None, catalog_folders=()
    )
    return servers.variables(state, none) | {"CLOUDEDGE_HOME": str(up_home.path)}


@pytest.fixture(scope="module")
def module_store(up_variables):
    """As `up_store`, for what the tests of one file share."""
    from infra.storage import open_store

    with pytest.MonkeyPatch.context() as patch:
        for name, value in up_variables.items():
            patch.setenv(name, value)
        open_store.cache_clear()
        yield open_store()
    open_store.cache_clear()


@pytest.fixture
def up_store(up_variables, monkeypatch):
    """The store of that home, and its variables set in this process."""
    from infra.storage import open_store

    for name, value in up_variables.items():
        monkeypatch.setenv(name, value)
    open_store.cache_clear()
    yield open_store()
    open_store.cache_clear()


@pytest.fixture(scope="session")
def quick_run(up_home) -> dict[str, Any]:
    """The report of the quick model's first run on the shared servers."""
    return up_home.run("--model", "quick")


@pytest.fixture
def prefect_client(up_variables):
    """A client of the shared Prefect server."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    here = {
        PREFECT_API_URL: up_variables["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: up_variables["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(here), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def tflite_python(tmp_path_factory) -> Path:
    """The Python of an environment with tflite-runtime 2.14; skips where none can be made."""
    if given := os.environ.get("CLOUDEDGE_TFLITE_PYTHON"):
        return Path(given)
    python = tmp_path_factory.mktemp("tflite") / "venv" / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", "3.11", str(python.parents[1])],
        ["pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(ROOT / "requirements" / "tflite.txt")],
    ):  # fmt: skip
        done = subprocess.run([str(BIN / "uv"), *command], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no environment for tflite-runtime: {' '.join(done.stderr.split())[:200]}")
    return python


@pytest.fixture
def tflite_set(tflite_python, monkeypatch) -> Path:
    """The same, and the setting that names it."""
    monkeypatch.setenv("CLOUDEDGE_TFLITE_PYTHON", str(tflite_python))
    return tflite_python
