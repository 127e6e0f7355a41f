"""Prefect's server on a real PostgreSQL: a run with sub-flows side by side, and nothing in front of its writes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.stack import servers
from tests.homes import wait_for

pytestmark = pytest.mark.integration


def programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian does not put them into the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


def other_user() -> dict[str, int]:
    """Somebody else, if we are root: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid}


@pytest.fixture
def postgres():
    """The address of a PostgreSQL of this test's own, on loopback."""
    found = programs()
    if not found:
        pytest.skip("needs Debian's package postgresql")
    who = other_user()
    folder = Path(tempfile.mkdtemp(prefix="cloudedge-postgres-"))
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        subprocess.run(
            [found / "initdb", "-D", folder / "data", "-U", "cloudedge", "--auth=trust", "--no-sync"],
            check=True, capture_output=True, cwd="/", **who,
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            found / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who)
        try:
            wait_for("PostgreSQL", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
            yield f"127.0.0.1:{port}", found
        finally:
            process.terminate()
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(programs: Path, address: str, query: str) -> str:
    """What psql answers."""
    host, _, port = address.partition(":")
    command = [programs / "psql", "-h", host, "-p", port, "-U", "cloudedge", "-d", "postgres", "-Atc", query]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.strip()


def test_a_run_on_postgresql(postgres, up_home, quick_run, tmp_path, monkeypatch):
    address, found = postgres
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://cloudedge@{address}/postgres")
    alone = Settings(
        home=tmp_path,
        bucket="elsewhere",
        endpoint_url=None,
        prefect_api_url=None,
        dask_address=None,
        catalog_folders=(),
    )
    with servers.running(alone) as up:
        up.wait()
        here = {"PREFECT_API_URL": f"{up.state.prefect_url}/api", "PREFECT_API_AUTH_STRING": up.state.prefect_auth}
        report = up_home.run("--model", "quick", **here)
        assert report["status"] == "complete"
        assert report["rows_out"] == quick_run["rows_out"]
        states = ask(found, address, "select distinct state_type from flow_run")
        assert states == "COMPLETED"
        assert int(ask(found, address, "select count(*) from flow_run")) >= 5, "the job, and a sub-flow for each site"
    assert not list((tmp_path / "prefect").glob("*.db")), "nothing is on SQLite"
