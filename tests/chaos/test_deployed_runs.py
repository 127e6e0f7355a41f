"""Flow runs of deployments that overlap, and one that is killed outright with its worker, on a real server of their own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloudedge.deploying import tidy_up
from tests.deployed import deployed, kill_outright, waits
from tests.homes import wait_for

pytestmark = pytest.mark.chaos

SILENT = timedelta(seconds=90)  # three heartbeats


@pytest.fixture(scope="module")
def place(up_variables, quick_run, quick_catalog, tmp_path_factory):
    """The server, with the automations of `cloudedge deploy`, but a shorter bound."""
    with deployed(tmp_path_factory.mktemp("deployed"), up_variables, quick_catalog) as found:
        tidy_up(found.client, SILENT)
        yield found


def test_of_two_nights_that_overlap_the_second_is_cancelled(place, tmp_path):
    with place.worker("night"):
        first = place.start("nightly", "held-b", tmp_path / "first")
        waits(tmp_path / "first")
        second = place.start("nightly", "held-b")
        state = wait_for("its end", lambda: (state := place.state(second)).is_final() and state)
        assert state.is_cancelled(), state
        assert "concurrency limit reached" in state.message
        assert place.state(first).is_running()
        (tmp_path / "first").touch()
        wait_for("the first one's end", lambda: place.state(first).is_completed())
    assert place.slots("nightly") == 0


def test_a_run_that_is_killed_outright_frees_its_slot_and_one_that_works_is_spared(place, tmp_path):
    """The killed one's machine is gone: nobody says to the server what became of it."""
    with place.worker("doomed", "--limit", "1") as doomed:
        killed = place.start("run", "held-a", tmp_path / "killed")
        waits(tmp_path / "killed")
        with place.worker("other"):  # gets all the rest: the first one is busy
            spared = place.start("nightly", "held-c", tmp_path / "spared")
            queued = place.start("run", "held-a")
            waits(tmp_path / "spared")
            wait_for("the queue", lambda: place.state(queued).name == "AwaitingConcurrencySlot")
            assert place.slots("run") == 1
            kill_outright(doomed)
            state = wait_for("the automation", lambda: (state := place.state(killed)).is_final() and state, 240)
            assert state.is_crashed(), state
            assert f"nothing was heard of it for {SILENT}" in state.message
            assert place.state(spared).is_running(), "it was at work all the time, for longer than the bound"
            ended = wait_for("the queued one's end", lambda: (state := place.state(queued)).is_final() and state, 180)
            assert ended.is_completed(), ended
            (tmp_path / "spared").touch()
            wait_for("the spared one's end", lambda: place.state(spared).is_completed())
    assert (place.slots("run"), place.slots("nightly")) == (0, 0)
