"""A run among several coordinators: refused where they cannot agree, stopped where it is one no more, else as ever."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest

from data_catalog.errors import Conflict, SettingError
from infra import coordination, keys
from infra.settings import read_settings
from tests.agreement import etcd
from tests.homes import wait_for

pytestmark = pytest.mark.e2e

WHAT = "runs-of-mnist-5k"


@pytest.fixture
def agreed(up_store, tmp_path):
    """The settings of one of two coordinators that agree over etcd, and the variables that say so."""
    with etcd(tmp_path) as url:
        settings = replace(read_settings(), coordinators=2, etcd_urls=(url,), lease_seconds=1.0)
        yield settings, {"CLOUDEDGE_COORDINATORS": "2", "CLOUDEDGE_ETCD_URL": url, "CLOUDEDGE_LEASE_SECONDS": "1"}


def test_a_store_that_ignores_conditions_is_found_out(up_store):
    """JuiceFS's gateway takes the headers, and writes all the same."""
    settings = replace(read_settings(), coordinators=2)
    with (
        pytest.raises(
            SettingError,
            match=r"ignores `If-None-Match: \*`.* set CLOUDEDGE_AGREEMENT=etcd .* CLOUDEDGE_COORDINATORS=1",
        ),
        coordination.coordinating(settings, WHAT, "never"),
    ):
        pytest.fail("nobody agreed")  # pragma: no cover
    assert not up_store.keys("agreement")
    with (
        pytest.raises(SettingError, match="CLOUDEDGE_AGREEMENT='paxos' is none of etcd, s3"),
        coordination.coordinating(replace(settings, agreement="paxos"), WHAT, "never"),
    ):
        pytest.fail("nobody agreed")  # pragma: no cover
    with coordination.coordinating(replace(settings, coordinators=1), WHAT, "as-it-is") as name:
        assert name == "as-it-is"


def test_while_one_coordinates_another_is_refused_and_later_has_a_higher_token(agreed):
    settings, _ = agreed
    with coordination.coordinating(settings, WHAT, "first") as first:
        assert coordination.admit(first) > 1
        with (
            pytest.raises(Conflict, match=rf"coordinates {WHAT} \(token 1\); run again"),
            coordination.coordinating(settings, WHAT, "second"),
        ):
            pytest.fail("there are two")  # pragma: no cover
        with coordination.coordinating(settings, "runs-of-another", "third", fresh=False) as other:
            assert other == "third"
    with coordination.coordinating(settings, WHAT, "second") as second:
        assert (first, second) == ("first-000001", "second-000002")
        assert coordination.admit(first) == 0, "what has ended writes nothing more"


def test_a_run_that_was_paused_for_longer_than_its_lease_writes_no_report(up_home, quick_run, up_store, agreed):
    settings, variables = agreed
    before = set(up_store.keys("runs"))
    run = up_home.start("run", "--json", "--model", "quick", **variables)
    try:
        new = wait_for(
            "the plan", lambda: [key for key in set(up_store.keys("runs")) - before if key.endswith("plan.json")]
        )
        os.kill(run.pid, signal.SIGSTOP)
        (plan,) = new
        with coordination.coordinating(settings, WHAT, "mine") as name:
            assert name == "mine-000002"
            os.kill(run.pid, signal.SIGCONT)
            out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    errors = [line for line in err.splitlines() if line.startswith("cloudedge: ")]
    assert (run.returncode, out) == (1, ""), err
    assert len(errors) == 1, errors
    assert f"{WHAT} is coordinated by" in errors[0], errors
    run_id = plan.split("/")[1]
    assert run_id.endswith("-000001")
    assert not up_store.exists(keys.run(run_id, "report.json"))
    done = up_home.run("--model", "quick", **variables)
    assert done["run_id"].endswith("-000003")
    assert json.loads(up_store.get(keys.run(done["run_id"], "report.json")))["rows_out"] == 1222
