"""The disk fills up, a server dies or somebody presses Ctrl-C in the middle of a run: it ends well, and nothing stays."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil
import pytest

from tests.homes import Home, small_disk

pytestmark = pytest.mark.e2e


def test_a_disk_that_fills_up_under_the_store(tmp_path, quick_catalog):
    """The store's disk is full when the shards are written: nothing counts as done that is not whole."""
    home = Home(tmp_path / "home", {"CLOUDEDGE_CATALOG": str(quick_catalog)})
    with small_disk(home.path / "s3", "60m"):
        process = home.start("run", "--model", "quick", "--dataset", "many-shards")
        for line in process.stderr:
            if line.startswith("partition"):
                break
        filler = home.path / "s3" / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        out, err = process.communicate(timeout=300)
        assert process.returncode == 1, err
        assert out == ""
        assert "no space left" in err
        assert "Traceback" not in err
        filler.unlink()
        assert home.run("--model", "quick", "--dataset", "many-shards")["rows_out"] == 5000


def test_a_prefect_server_that_goes_away(fresh_home):
    """Its server is killed in the middle of a run: one line that names its log, and the next run is well."""
    process = fresh_home.start("run", "--model", "quick", "--dataset", "many-shards")
    try:
        server = None
        while server is None and process.poll() is None:
            server = next((p for p in fresh_home.servers() if "prefect_app" in " ".join(p.cmdline())), None)
        for line in process.stderr:
            if line.startswith("preprocess"):
                break
        server.kill()
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("cloudedge: ")]
    assert len(lines) == 1
    assert "prefect went away" in lines[0]
    assert "prefect.log" in lines[0]
    assert "Traceback" not in err
    time.sleep(0.2)
    assert not fresh_home.servers()
    assert fresh_home.run("--model", "quick")["status"] == "complete"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_leaves_nothing_running(fresh_home, number):
    import signal

    process = fresh_home.start("run", "--model", "quick", "--dataset", "many-shards")
    for line in process.stderr:
        if line.startswith("preprocess"):
            break
    assert fresh_home.servers()
    process.send_signal(getattr(signal, number))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert out == ""
    psutil.wait_procs(fresh_home.servers(), timeout=10)
    assert not fresh_home.servers()
