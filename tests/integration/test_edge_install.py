"""An edge site's plain install has no TensorFlow: the site's flow does its order there, with the order and the store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_catalog.nouns import OrderedShard, Site, WorkOrder
from infra import enrolment, keys, shards
from infra.codecs import CODECS
from tests.homes import BIN, environment

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
FULFIL = """
import importlib.util, json, sys
from flows.fulfil import fulfil
receipt = fulfil(sys.argv[1])
print(json.dumps({
    "receipt": receipt.model_dump(mode="json"),
    "found": [name for name in ("tensorflow", "tf_keras", "tensorflow_model_optimization", "mlxtend") if importlib.util.find_spec(name)],
    "imported": [name for name in sys.modules if name.startswith(("tensorflow", "tf_keras"))],
}))
"""


@pytest.fixture(scope="module")
def edge_python(tmp_path_factory) -> Path:
    """The Python of an environment with the plain install and nothing else."""
    folder = tmp_path_factory.mktemp("edge") / "venv"
    uv = str(BIN / "uv")
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [*install, "--require-hashes", "-r", str(ROOT / "requirements" / "edge.txt")],
        [*install, "--no-deps", str(ROOT)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    return folder / "bin" / "python"


def under_zstd(store, shard: OrderedShard) -> OrderedShard:
    """The shard as the planner would have it packed for a plain install: whoever ran has packages for other codecs."""
    plain = shards.unpack(store.get(shard.key), shard.codec, shard.bytes, shard.digest, shard.key)
    key = keys.shard("mnist-5k", shard.digest, "zstd", False)
    store.put(key, CODECS.get("zstd").compress(plain))
    return shard.model_copy(update={"key": key, "codec": "zstd"})


def test_the_site_flow_needs_no_tensorflow(edge_python, quick_run, up_store, up_variables, tmp_path):
    key = keys.run(quick_run["run_id"], "orders", "edge-2.json")
    order = WorkOrder.model_validate_json(up_store.get(key))
    plain = order.model_copy(update={"shards": tuple(under_zstd(up_store, shard) for shard in order.shards)})
    key = keys.run(quick_run["run_id"], "orders", "edge-2-plain.json")
    up_store.put(key, plain.model_dump_json().encode())
    results = [keys.result(shard.result) for shard in order.shards]
    before = [up_store.get(name) for name in results]
    for name in results:
        up_store.delete(name)
    variables = environment(tmp_path / "site", **{k: v for k, v in up_variables.items() if k != "CLOUDEDGE_HOME"})
    done = subprocess.run(
        [str(edge_python), "-c", FULFIL, key], env=variables, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["found"] == said["imported"] == []
    assert said["receipt"]["computed_results"] == len(results)
    assert said["receipt"]["site"] == "edge-2"
    assert [up_store.get(name) for name in results] == before


def test_it_says_which_codecs_it_cannot_read(edge_python):
    """So the planner chooses none of these for a shard that goes there."""
    code = "from infra import codec_trials; print(*codec_trials.missing())"
    done = subprocess.run([str(edge_python), "-c", code], capture_output=True, text=True)
    missing = done.stdout.split()
    assert "lz4" in missing, done.stderr
    assert not {"zstd", "none", "gzip"} & {*missing}


def test_the_command_is_there_and_says_what_training_needs(edge_python, up_variables, tmp_path):
    command = str(edge_python.with_name("cloudedge"))
    listed = subprocess.run(
        [command, "catalog"], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True
    )
    assert listed.returncode == 0
    assert "mnist-5k" in listed.stdout
    store = {k: v for k, v in up_variables.items() if k != "CLOUDEDGE_HOME"}
    run = subprocess.run(
        [command, "run"], env=environment(tmp_path, **store), cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 2, run.stderr
    assert "pip install 'cloudedge[" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_machine_with_the_plain_install_joins_as_a_site(edge_python, up_home, up_store, tmp_path):
    """And needs neither credentials nor TensorFlow for it; systemd's own judge finds nothing wrong with the unit."""
    token = enrolment.invite(up_store, up_home.path, Site(name="plain", tier="edge"), 3600)
    command = [str(edge_python.with_name("cloudedge")), "site", "join", token, "--no-start", "--wait", "0"]
    done = subprocess.run(command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plain waits to be admitted" in done.stdout
    assert enrolment.admit_waiting(up_store, up_home.path) == ["plain"]
    enrolment.remove(up_store, up_home.path, "plain")
    unit = tmp_path / "sites" / "plain" / "cloudedge-site-plain.service"
    if judge := shutil.which("systemd-analyze"):
        said = subprocess.run([judge, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True)
        assert "cloudedge-site-plain" not in said.stderr, said.stderr
