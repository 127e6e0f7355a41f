"""The local stack: real servers on loopback, held by one program, gone with it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import urllib.request

import psutil
import pytest

from infra.stack import servers
from tests.homes import Home, environment, wait_for

pytestmark = pytest.mark.integration


def test_doctor_finds_all_well(up_home):
    out = up_home.call("doctor").stdout
    for part in ("python", "catalog", "disk", "edge runtime", "store", "prefect", "dask"):
        assert f"ok    {part}: " in out
    assert "fails" not in out


def test_doctor_names_what_fails(up_home, up_variables):
    wrong = {k: v for k, v in up_variables.items() if k.startswith("AWS_")} | {"CLOUDEDGE_BUCKET": "not-there"}
    out = up_home.call("doctor", code=2, **wrong).stdout
    assert "fails store: " in out
    assert "CLOUDEDGE_BUCKET" in out
    assert "ok    prefect: " in out


def test_up_says_where_and_a_second_up_changes_nothing(up_home):
    before = {process.pid for process in up_home.servers()}
    out = up_home.call("up").stdout
    assert "Prefect UI: http://127.0.0.1:" in out
    assert {process.pid for process in up_home.servers()} == before


def test_down_without_up(tmp_path):
    assert Home(tmp_path, {}).call("down").stdout == "nothing was running\n"


def test_the_page_of_prefect_loads_and_calls_its_own_server(up_home):
    state = servers.read_state(up_home.path)
    assert state
    with urllib.request.urlopen(f"{state.prefect_url}/ui-settings") as answer:
        assert json.load(answer)["api_url"] == "/api"
    with urllib.request.urlopen(state.prefect_url) as answer:
        assert b"<title>Prefect" in answer.read()


def test_prefect_wants_the_password(up_home):
    state = servers.read_state(up_home.path)
    assert state
    assert servers.answers(f"{state.prefect_url}/api/version", state.prefect_auth)
    assert not servers.answers(f"{state.prefect_url}/api/version", "admin:guess")
    assert not servers.answers(f"{state.prefect_url}/api/version")


def test_all_listen_on_loopback_alone(up_home):
    listening = [
        connection.laddr.ip
        for process in up_home.servers()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert set(listening) == {"127.0.0.1"}


def test_the_keys_are_the_owners_alone(up_home):
    for name in ("credentials.json", "stack.json"):
        assert stat.S_IMODE((up_home.path / name).stat().st_mode) == 0o600
    kept = json.loads((up_home.path / "credentials.json").read_text())
    assert len(kept["secret_key"]) >= 40
    # nothing secret stands where every user of the machine can read it
    for process in up_home.servers():
        assert kept["secret_key"] not in " ".join(process.cmdline())


def test_two_programs_do_not_share_a_home(tmp_path, quick_catalog):
    home = Home(tmp_path, {"CLOUDEDGE_CATALOG": str(quick_catalog)})
    process = home.start("run", "--model", "quick", "--dataset", "many-shards")
    try:
        for line in process.stderr:
            if line.startswith("starting"):
                break
        wait_for("the servers", home.servers)
        done = home.call("run", code=1)
        assert f"pid {process.pid}" in done.stderr
        assert "cloudedge up" in done.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_a_part_that_does_not_come_up_names_its_log(tmp_path):
    home = Home(tmp_path, {})
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "meta.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "s3" / "formatted").touch()
    done = home.call("run", code=1)
    assert "s3 server did not come up" in done.stderr
    assert str(tmp_path / "logs" / "s3.log") in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.servers()


def test_a_taken_port_is_not_taken_twice(up_home, tmp_path):
    """Another home's stack on the same machine gets ports of its own."""
    other = Home(tmp_path, {})
    other.call("up")
    try:
        here, there = servers.read_state(up_home.path), servers.read_state(tmp_path)
        assert here
        assert there
        assert here.s3_url != there.s3_url
        assert here.prefect_url != there.prefect_url
    finally:
        other.call("down")
    assert not other.servers()


def test_servers_die_with_a_killed_supervisor(tmp_path):
    home = Home(tmp_path, {})
    home.call("up")
    state = servers.read_state(tmp_path)
    assert state
    os.kill(state.pid, signal.SIGKILL)
    wait_for("the end of all servers", lambda: not home.servers(), 20)
    assert servers.read_state(tmp_path) is None
    assert home.call("down").stdout == "nothing was running\n"


def test_what_ends_is_started_again_where_it_was(up_home, up_store):
    """`kill -9` of both servers: runs find them at the same addresses, with what was in them."""
    state = servers.read_state(up_home.path)
    assert state
    up_store.put("test-restart", b"kept")
    victims = [p for p in up_home.servers() if p.name() == "juicefs" or "prefect_app" in " ".join(p.cmdline())]
    assert len(victims) == 2
    for process in victims:
        process.kill()
    psutil.wait_procs(victims, timeout=10)
    wait_for("the store", lambda: servers.answers(f"{state.s3_url}/minio/health/live"))
    wait_for("Prefect", lambda: servers.answers(f"{state.prefect_url}/api/version", state.prefect_auth))
    assert servers.read_state(up_home.path) == state
    assert up_store.get("test-restart") == b"kept"
    up_store.delete("test-restart")


def test_the_command_starts_quickly_because_it_imports_little():
    """`cloudedge --help` promises half a second; what would break that is an import of a large library."""
    code = "import sys, cloudedge.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(os.devnull)
    ).stdout.split()
    for large in ("tensorflow", "prefect", "dask", "numpy", "pyarrow", "s3fs", "pydantic", "rich"):
        assert large not in loaded


def test_a_stack_that_lacks_what_a_run_needs(tmp_path, up_variables):
    """`up` with a store of one's own, then `run` without: there is no store, and no guess at one."""
    home = Home(tmp_path, {})
    store = {name: up_variables[name] for name in up_variables if name.startswith("AWS_") or name == "CLOUDEDGE_BUCKET"}
    assert "S3 store" not in home.call("up", **store).stdout
    try:
        assert "has no store" in home.call("run", code=1).stderr
    finally:
        home.call("down")
