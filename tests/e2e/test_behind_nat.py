"""Two sites behind NAT, from where connections go out and into which none comes, do whole runs: by letters, and as workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

from cloudedge.deploying import deploy_site, site_pool
from tests.homes import BIN, MANY_SHARDS, environment, wait_for
from tests.nat import behind_nat, why_no_nat

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_no_nat()), reason=why_no_nat())]

BORN = MANY_SHARDS.replace("shard_rows: 40", "shard_rows: 500")
LISTEN = "import socket, time; s = socket.create_server(('0.0.0.0', 7777)); print('up', flush=True); time.sleep(60)"
KNOCK = "import socket; socket.create_connection(('127.0.0.1', 7777), 2)"


@pytest.fixture(scope="module")
def places():
    with behind_nat(2) as made:
        yield made


@contextmanager
def public(url, address, folder):
    """The address under which a server of this machine is reached at `address` too."""
    to = url.removeprefix("http://").partition("/")[0]
    command = [sys.executable, "-m", "infra.emulation.relay", f"{address}:0", to, "inf", "inf", "0"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        process.stdin.write(f"{folder / 'passed'}\n")
        process.stdin.close()
        yield f"http://{address}:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def store_url(places, up_variables, tmp_path_factory):
    with public(up_variables["AWS_ENDPOINT_URL"], places[0].internet, tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Datasets that are born at two sites that join, and at two that are workers."""
    folder = tmp_path_factory.mktemp("natted")
    for kind in ("sites", "datasets"):
        (folder / kind).mkdir()
    for number in (1, 2):
        (folder / "sites" / f"pool-{number}.yaml").write_text("tier: edge\nthreads: 1\ndispatch: worker\n")
    for name in ("nat", "pool"):
        (folder / "datasets" / f"{name}.yaml").write_text(BORN.replace("edge-", f"{name}-"))
    return folder


@contextmanager
def program(place, command, home, variables=None):
    """A program of the place, as on a machine that has nothing but its home and these variables."""
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            place.within(*command), cwd="/", env=environment(home, **(variables or {})), stdout=log, stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    try:
        yield process
        assert process.poll() is None, (home / "log").read_text()
    finally:
        process.terminate()
        process.wait(60)


def require_whole(report, name):
    assert (report["status"], report["rows_out"]) == ("complete", 5000)
    assert (report["missing_rows"], report["duplicate_rows"]) == (0, 0)
    lines = {line["name"]: line for line in report["sites"]}
    assert [lines[f"{name}-{number}"]["rows"] for number in (1, 2)] == [2500, 2500]
    assert [lines[f"{name}-{number}"]["computed_results"] for number in (1, 2)] == [5, 5]
    assert report["escalated_rows"] > 0


def test_nothing_comes_in(places):
    """Not even with a route to the router: it passes on what belongs to a connection that was made from inside."""
    site = places[0]
    listener = subprocess.Popen(site.within(sys.executable, "-c", LISTEN), stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout.readline() == "up\n"
        assert site.python(KNOCK).returncode == 0
        subprocess.run(["ip", "route", "add", f"{site.inside}/32", "via", site.outside], check=True)
        for address in (site.inside, site.outside):
            with pytest.raises(TimeoutError):
                socket.create_connection((address, 7777), 1)
    finally:
        subprocess.run(["ip", "route", "del", f"{site.inside}/32"], check=False)
        listener.kill()
        listener.wait()
    with socket.create_server((site.internet, 0)) as internet:
        port = internet.getsockname()[1]
        site.python(f"import socket; socket.create_connection(('{site.internet}', {port}), 5)")
        assert internet.accept()[1][0] == site.outside


def test_a_run_with_sites_that_joined(places, store_url, catalog, up_home, quick_run, tmp_path):
    public_store = {"CLOUDEDGE_PUBLIC_ENDPOINT": store_url}
    work = [sys.executable, "-m", "cloudedge", "site"]
    with ExitStack() as stack:
        for number, place in enumerate(places, 1):
            (home := tmp_path / str(number)).mkdir()
            token = up_home.call("site", "invite", f"nat-{number}", **public_store).stdout.strip()
            joining = subprocess.Popen(
                place.within(*work, "join", token, "--no-start"), cwd="/", env=environment(home)
            )  # fmt: skip
            wait_for("the registration", lambda: "admitted" in up_home.call("site", "list", **public_store).stdout)
            assert joining.wait(120) == 0
            stack.enter_context(program(place, [*work, "work", f"nat-{number}"], home))
        report = json.loads(
            up_home.call(
                "run", "--json", "--dataset", "nat", "--model", "quick", "--catalog", str(catalog), **public_store
            ).stdout
        )
        for place in places:
            assert place.run("ss", "-Hltn").stdout == "", "nothing there waits to be called"
        for number in (1, 2):
            up_home.call("site", "remove", f"nat-{number}")
    require_whole(report, "nat")


def test_a_run_with_sites_that_are_workers(
    places, store_url, catalog, up_home, up_variables, quick_run, prefect_client, tmp_path
):
    with ExitStack() as stack:
        api = stack.enter_context(public(up_variables["PREFECT_API_URL"], places[1].internet, tmp_path))
        there = {name: value for name, value in up_variables.items() if name != "CLOUDEDGE_HOME"} | {
            "AWS_ENDPOINT_URL": store_url, "PREFECT_API_URL": f"{api}/api", "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }  # fmt: skip
        for number, place in enumerate(places, 1):
            deploy_site(prefect_client, f"pool-{number}")
            (home := tmp_path / str(number)).mkdir()
            command = [
                str(BIN / "prefect"),
                "worker",
                "start",
                "--pool",
                site_pool(f"pool-{number}"),
                "--type",
                "process",
            ]
            own = {"PREFECT_HOME": str(home / "prefect")}
            stack.enter_context(program(place, command, home, there | own))
        report = up_home.run("--dataset", "pool", "--model", "quick", "--catalog", str(catalog))
        for number in (1, 2):
            kept = [*(tmp_path / str(number) / "sites" / f"pool-{number}" / "premises").rglob("*.arrow.*")]
            assert len(kept) == 5, "its shards stay on its own disk"
    require_whole(report, "pool")
    runs = [run for run in prefect_client.read_flow_runs() if run.name.startswith("pool-")]
    assert {run.name for run in runs} == {
        f"pool-{number}: {kind}" for number in (1, 2) for kind in ("prepare", "probe", "compress", "answer")
    }
    assert all(run.state.is_completed() for run in runs)
