"""A search among recipes on a real store, LiteRT and TensorFlow: published, refused, resumed; models of others."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from data_catalog.errors import BadInput, BadRecord, ModelRefused
from data_catalog.nouns import Budget, CompressionRecipe, Dataset, Gate
from infra import compression, gate, keys, model_registry
from infra.recipes import import_tensorflow
from infra.testing import step_suite
from tasks.prepare_original import prepare_original
from tasks.try_recipes import try_recipes

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # third parties' own, on saving nets

BOUNDS = Gate(max_drop=0.1, max_class_drop=0.3)
QUICK = {"epochs": 2, "batch": 16, "shift": 0.0}


def recipe(name, *steps):
    return CompressionRecipe.model_validate({"name": name, "description": "d", "steps": steps})


INT8 = recipe("int8", {"step": "int8"})
PRUNED = recipe("prune-float16", {"step": "fold"}, {"step": "prune", "sparsity": 0.3, **QUICK}, {"step": "float16"})
# so many zeros, and no training to make up for them
BAD = recipe(
    "bad", {"step": "fold"}, {"step": "prune", "sparsity": 0.99, **QUICK, "learning_rate": 1e-9}, {"step": "int8"}
)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A dataset of bright stripes, as a file."""
    rows = step_suite.examples(500, 21)
    path = tmp_path_factory.mktemp("stripes") / "stripes.npz"
    np.savez(path, x=rows.x, label=np.array(["lmr"[label] for label in rows.y]))
    return Dataset.model_validate({
        "name": "stripes", "description": "d", "license": "none", "sources": [{"site": "edge-1", "uri": str(path)}],
        "record": {"shape": [8, 8, 1], "dtype": "uint8", "low": 0, "high": 255, "label": "label"},
        "splits": {"train": 0.5, "calibration": 0.1, "validation": 0.4},
    })  # fmt: skip


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A Keras file of a classifier that gives probabilities, as others make them."""
    tf = import_tensorflow()
    net = step_suite.example()[0].keras
    path = tmp_path_factory.mktemp("theirs") / "Their Net.h5"
    tf.keras.Model(net.input, tf.keras.layers.Softmax()(net.output)).save(path)
    return path


CLASSES = ("l", "m", "r")


def prepared(model, stripes, folder, store, **more):
    more = {"classes": CLASSES} | more
    return prepare_original(str(model), None, stripes, BOUNDS, folder, store.bucket, **more)


def test_a_search_publishes_refuses_and_goes_on(up_store, stripes, model_file, tmp_path):
    job = prepared(model_file, stripes, tmp_path, up_store)
    assert (job.model, job.original.tier) == ("their-net", "cloud")
    assert job.original.accuracy > 0.9
    recipes = (INT8, PRUNED, BAD)
    trials = {trial.recipe: trial for trial in try_recipes(job, recipes, Budget(max_bytes=1), 2, None)}
    assert {name: trial.status for name, trial in trials.items()} == {
        "int8": "published", "prune-float16": "published", "bad": "refused"
    }  # fmt: skip
    assert "bytes to send, more than 1" in trials["int8"].reason
    assert not trials["int8"].inside_budget

    card = model_registry.read_card(up_store, job.model, job.version, "int8")
    assert card == trials["int8"].card
    assert card.signature == "uint8[8,8,1] -> float32[3]"
    assert card.runs_on["litert"]
    assert card.lowest_runtime
    assert 0 <= card.calibration_error < 0.3
    assert card.latency_seconds > 0
    assert card.rows_per_second > 0
    assert len(card.class_drop) == 3
    assert card.stored_bytes == len(up_store.get(card.key))
    assert card.made_from == job.original.digest
    assert model_registry.read_golden(up_store, card)[0].logits.shape[1] == 3
    answers = model_registry.read_answers(up_store, card, job.original, "validation")
    assert answers.num_rows == card.validation_rows
    pruned = trials["prune-float16"].card
    assert 0.2 < pruned.sparsity < 0.4
    assert [step["step"] for step in pruned.recipe_steps] == ["fold", "prune", "float16"]

    refused = [key for key in up_store.keys(keys.model_version(job.model, job.version)) if "/refused/bad-" in key]
    record = json.loads(up_store.get(refused[0]))
    assert record["gate"] == BOUNDS.model_dump()
    assert record["reason"] == trials["bad"].reason
    assert "bad" not in model_registry.cards(up_store, job.model, job.version)

    again = {trial.recipe: trial for trial in try_recipes(job, recipes, Budget(), 2, None)}
    assert all(trial.reused and not trial.seconds for trial in again.values())
    assert again["int8"].card == card
    assert again["int8"].inside_budget
    wide = job.model_copy(update={"gate": Gate(max_drop=0.9, max_class_drop=1.0)})
    if not trials["bad"].faults:
        assert try_recipes(wide, (BAD,), Budget(), 1, None)[0].status == "published"


def test_when_the_time_is_over_nothing_new_is_begun(up_store, stripes, model_file, tmp_path):
    job = prepared(model_file, stripes, tmp_path, up_store)
    new = recipe("later", {"step": "dynamic_range", "dense_scales": "channel"})
    trial = try_recipes(job, (new,), Budget(minutes=1e-9), 1, None)[0]
    assert (trial.status, trial.card) == ("untried", None)
    assert "the time was over" in trial.reason


def test_a_step_that_cannot_work_fails_its_recipe_alone(up_store, stripes, model_file, tmp_path):
    job = prepared(model_file, stripes, tmp_path, up_store)
    wrong = recipe("wrong", {"step": "prune", "layers": "logits=7"}, {"step": "int8"})
    trials = try_recipes(job, (wrong, INT8), Budget(), 2, None)
    assert [trial.status for trial in trials] == ["failed", "published"]
    assert "the sparsity '7' of layer logits is no share" in trials[0].reason


def test_a_plain_saved_model_can_be_converted_and_distilled_but_not_pruned(up_store, stripes, tmp_path):
    tf = import_tensorflow()
    net = step_suite.example()[0].keras
    module = tf.Module()
    module.net = net
    spec = tf.TensorSpec((None, 8, 8, 1), tf.uint8)
    serve = tf.function(lambda x: {"scores": net(tf.cast(x, tf.float32), training=False)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures=serve)
    job = prepared(tmp_path / "plain", stripes, tmp_path, up_store)
    assert job.keras == ""
    trials = try_recipes(job, (INT8, PRUNED), Budget(), 1, None)
    assert [trial.status for trial in trials] == ["published", "failed"]
    assert "finds no convolution" in trials[1].reason
    assert trials[0].card.agreement > 0.9


def test_a_swapped_label_map_is_refused(up_store, stripes, model_file, tmp_path):
    with pytest.raises(ModelRefused, match=r"another order than the labels.*outputs meant l, m, r"):
        prepared(model_file, stripes, tmp_path, up_store, classes=("m", "l", "r"), name="swapped")


def test_models_that_do_not_fit_are_refused_in_one_line(up_store, stripes, tmp_path):
    keras = import_tensorflow().keras
    layers = keras.layers

    def saved(name, *stack):
        keras.Sequential(stack).save(tmp_path / name)
        return tmp_path / name

    entry = layers.Input((8, 8, 1))
    cases = {
        saved("five.keras", entry, layers.Flatten(), layers.Dense(5)): "gives .5,. a record, and the dataset has 3",
        saved("big.keras", layers.Input((9, 9, 1)), layers.Flatten(), layers.Dense(3)): r"takes records of .9, 9, 1.",
    }
    for path, message in cases.items():
        with pytest.raises(ModelRefused, match=message):
            prepared(path, stripes, tmp_path, up_store)
    one = keras.Sequential(
        [entry, layers.Flatten(), layers.Dense(3, bias_initializer=keras.initializers.Constant([0, 9e9, 0]))]
    )
    one.save(tmp_path / "one.keras")
    with pytest.raises(ModelRefused, match="answers 'm' to every row"):
        prepared(tmp_path / "one.keras", stripes, tmp_path, up_store)
    with pytest.raises(BadInput, match="has a Lambda layer"):
        prepared(
            saved("code.keras", entry, layers.Lambda(lambda x: x), layers.Flatten(), layers.Dense(3)),
            stripes,
            tmp_path,
            up_store,
        )
    (tmp_path / "broken.keras").write_bytes(b"not a model")
    with pytest.raises(ModelRefused, match="is no Keras model"):
        prepared(tmp_path / "broken.keras", stripes, tmp_path, up_store)
    with zipfile.ZipFile(tmp_path / "half.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelRefused, match="cannot be loaded by Keras"):
        prepared(tmp_path / "half.keras", stripes, tmp_path, up_store)
    with pytest.raises(BadInput, match="cannot be read"):
        prepared(tmp_path / "absent.h5", stripes, tmp_path, up_store)
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(BadInput, match="no model that can be compressed"):
        prepared(tmp_path / "model.onnx", stripes, tmp_path, up_store)


def test_labels_that_are_no_class(up_store, stripes, model_file, tmp_path):
    with pytest.raises(BadRecord, match="label 'r' is no class of model their-net"):
        prepared(model_file, stripes, tmp_path, up_store, classes=("l", "m", "x"))


def test_a_corrupted_file_is_refused():
    candidate = step_suite.result("int8")
    rows = {"validation": step_suite.examples(64, 5)}
    fields, logits, _ = gate.measure(candidate.model, "litert", rows, None)
    assert gate.faults(logits["validation"], rows["validation"].y, CLASSES) == ()
    assert fields["accuracy"] > 0.8
    for bad in (candidate.model[: len(candidate.model) // 2], b"TFL3" * 100):
        with pytest.raises(ModelRefused, match=r"cannot (load|run)"):
            gate.measure(bad, "litert", rows, None)


def test_a_candidate_survives_the_store():
    folded = step_suite.result("fold")
    back = compression.unpack(compression.pack(folded), "k")
    x = step_suite.examples(16, 4).x.astype(np.float32)
    np.testing.assert_allclose(back.keras(x), folded.keras(x), atol=1e-6)
    with pytest.raises(Exception, match="k holds no step's outcome"):
        compression.unpack(b"nonsense", "k")
