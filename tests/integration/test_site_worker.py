"""A site with `dispatch: worker`: its own work pool, its own worker and home, the same letters and answers."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from cloudedge.deploying import deploy_site, site_pool
from data_catalog.errors import SiteFailed
from data_catalog.nouns import Profile, Site
from data_catalog.orders import PrepareOrder, ProbeOrder
from infra import keys
from tasks.ask_site import ask_site
from tests.homes import BIN, environment

pytestmark = pytest.mark.integration

FAR = Site(name="far", tier="edge", threads=1, description="Behind a worker of its own.", dispatch="worker")


@pytest.fixture
def far_worker(up_home, up_variables, prefect_client, tmp_path):
    """The worker of the site, with a home that nobody else has."""
    deploy_site(prefect_client, "far")
    there = environment(tmp_path / "there", **{k: v for k, v in up_variables.items() if k != "CLOUDEDGE_HOME"})
    command = [str(BIN / "prefect"), "worker", "start", "--pool", site_pool("far"), "--type", "process"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=there | {"PREFECT_WORKER_QUERY_SECONDS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}, cwd="/",
            stdout=log, stderr=log, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    yield tmp_path / "there"
    process.terminate()
    process.wait(60)


def test_letters_are_done_by_the_sites_own_worker(far_worker, up_store, prefect_client):
    answered = ask_site(FAR, "probe", ProbeOrder(site=FAR, cards=()), "run-far", "probe-far", 240, up_store.bucket)
    profile = Profile.model_validate(answered.body)
    assert profile.site == "far"
    assert answered.wan_out > 0, "what crossed its link is counted"
    assert (far_worker / "sites" / "far").exists(), "in its own home"
    assert not up_store.exists(keys.mailbox("far")), "nothing was left in a mailbox that nobody reads"

    broken = PrepareOrder.model_construct(dataset=None, source="none", threads=1)
    with pytest.raises(SiteFailed) as failed:
        ask_site(FAR, "prepare", broken, "run-far", "prepare-none", 240, up_store.bucket)
    assert "far" in str(failed.value)
    runs = [run for run in prefect_client.read_flow_runs() if run.name.startswith("far: ")]
    assert {run.name for run in runs} == {"far: probe", "far: prepare"}
    assert all(run.state.is_completed() for run in runs), "the answer says what failed; doing the letter did not"


def test_a_site_that_was_not_deployed(up_store, prefect_client):
    nobody = FAR.model_copy(update={"name": "nobody"})
    with pytest.raises(SiteFailed, match="cloudedge deploy"):
        ask_site(nobody, "probe", ProbeOrder(site=nobody, cards=()), "run-nobody", "probe-nobody", 5, up_store.bucket)
