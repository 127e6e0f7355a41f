"""Processes of one home take turns: the second waits, and begins when the first ends or is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from data_catalog.errors import Conflict, StoreFull
from infra.coordination import coordinating
from infra.progress import listening
from infra.settings import read_settings
from tests.homes import environment, wait_for

pytestmark = pytest.mark.unit

HOLDER = """
import sys, time
from infra.coordination import coordinating
from infra.settings import read_settings
with coordinating(read_settings(), sys.argv[1], "first"):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_HOME", str(tmp_path))
    return replace(read_settings(), coordinators=1)


def test_a_second_one_waits_for_the_first_until_that_is_killed(settings):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "runs-of-a"], env=environment(settings.home), stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "begun\n"
        with coordinating(settings, "runs-of-b", "another") as name:
            assert name == "another"
        with (
            pytest.raises(Conflict, match="is still at work at the deadline"),
            coordinating(settings, "runs-of-a", "late", until=time.time() + 0.1),
        ):
            pytest.fail("it is not its turn")  # pragma: no cover
        said = []

        def heard(event):
            said.append((event.stage, holder.poll()))
            holder.kill()

        with listening(heard), coordinating(settings, "runs-of-a", "second") as name:
            assert name == "second"
        assert said == [("wait for another run", None)]
        wait_for("its end", lambda: holder.poll() is not None)
    finally:
        holder.kill()
        holder.communicate()


def test_a_home_that_cannot_be_written_is_said(settings, tmp_path):
    (tmp_path / "file").touch()
    home = replace(settings, home=tmp_path / "file")
    with pytest.raises(StoreFull, match="set CLOUDEDGE_HOME"), coordinating(home, "runs-of-a", "never"):
        pytest.fail("it has no place")  # pragma: no cover
