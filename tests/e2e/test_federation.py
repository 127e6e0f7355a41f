"""`cloudedge federate`, killed in the middle and begun again; and what a site learnt, brought back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from infra import weights
from tests.federations import SITES, write_catalog
from tests.homes import wait_for

pytestmark = pytest.mark.e2e

OPTIONS = (
    "--model",
    "quick",
    "--dataset",
    "skewed",
    "--rounds",
    "4",
    "--epochs",
    "1",
    "--average",
    "trimmed_mean",
    "--quorum",
    "2",
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skewed")
    write_catalog(folder, 80)
    (folder / "edge-4.npz").rename(folder / "moved.npz")  # edge-4 has lost its data
    return folder


def test_killed_begun_again_published_and_restored(up_home, up_store, quick_run, catalog, tmp_path):
    arguments = ("federate", "--json", *OPTIONS, "--catalog", str(catalog))
    killed = up_home.start(*arguments)

    def rounds() -> set[str]:
        return {key for key in up_store.keys("federations/quick") if key.endswith("/round.json")}

    wait_for("a round", lambda: rounds() or killed.poll() is not None, 300)
    assert killed.poll() is None, killed.communicate()
    before = {key: up_store.get(key) for key in rounds()}
    for process in [*psutil.Process(killed.pid).children(recursive=True), psutil.Process(killed.pid)]:
        os.kill(process.pid, signal.SIGKILL)
    killed.communicate()

    report = json.loads(up_home.call(*arguments).stdout)
    assert report["outcome"] == "published", report["reason"]
    assert len(report["rounds"]) == 4
    for key, data in before.items():
        assert up_store.get(key) == data, "a round that was done is done"
    for done in report["rounds"]:
        assert [update["site"] for update in done["updates"]] == list(SITES[:3])
        assert "moved" not in done["left_out"]["edge-4"]
        assert "does not exist" in done["left_out"]["edge-4"]
    card = report["card"]
    assert card["name"] == f"federated-{report['federation']['federation_id']}"
    assert up_store.exists(f"models/quick/{card['version']}/{card['name']}/card.json")
    assert up_store.exists(card["key"])
    assert card["made_from"] == report["rounds"][-1]["digest"]

    path = up_home.path / "sites" / "edge-1" / "training" / "quick.npz"
    latest = path.read_bytes()
    path.unlink()
    said = up_home.call("models", "restore", "edge-1", "quick").stdout
    assert str(path) in said
    assert "in round 4 of federation" in said
    assert path.read_bytes() == latest
    up_home.call("models", "restore", "edge-1", "quick", "--round", "2")
    assert path.read_bytes() != latest
    assert len(weights.unpack(path.read_bytes(), "x")) == len(weights.unpack(latest, "x"))
    assert (
        "no site with a backup of quick is called 'edge-4'"
        in up_home.call("models", "restore", "edge-4", "quick", code=2).stderr
    )


def test_what_the_gate_refuses(up_home, quick_run, catalog, tmp_path):
    """A net that learnt one round from nothing."""
    (tmp_path / "models").mkdir()
    text = (Path(up_home.variables["CLOUDEDGE_CATALOG"]) / "models" / "quick.yaml").read_text()
    (tmp_path / "models" / "quick.yaml").write_text(text.replace("max_drop: 0.5", "max_drop: 0.1"))
    done = up_home.call(
        "federate", "--model", "quick", "--dataset", "skewed", "--site", "edge-1", "--rounds", "1", "--start", "fresh",
        "--catalog", str(tmp_path), "--catalog", str(catalog), code=1,
    )  # fmt: skip
    assert "more than `gate.max_drop` 10.00% lower" in done.stderr
    assert "status: refused" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--average", "meen"), "did you mean 'mean'"),
        (("--site", "edge-9"), "no site is called 'edge-9'"),
        (("--dataset", "mnist"), "did you mean 'mnist-5k'"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_wrong_words_are_said_at_once(up_home, arguments, message):
    done = up_home.call("federate", *arguments, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
