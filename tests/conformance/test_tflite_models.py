"""Models that we did not make, through both runtimes of `.tflite` files: fixed batches, quantised ends, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow
from infra.runtimes import RUNTIMES

pytestmark = pytest.mark.conformance

WEIGHTS = np.random.default_rng(3).normal(size=(36, 3)).astype(np.float32)
X = np.random.default_rng(4).random((11, 6, 6, 1)).astype(np.float32)
LOGITS = X.reshape(11, 36) @ WEIGHTS


@pytest.fixture(params=["litert", "tflite_runtime"])
def runtime(request):
    if request.param == "tflite_runtime":
        request.getfixturevalue("tflite_set")
    return RUNTIMES.get(request.param)


def converted(function, *shapes):
    """A `.tflite` of a TensorFlow function of float32."""
    tf = import_tensorflow()
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape) for shape in shapes])
    return tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()]).convert()


def quantised(kind):
    """The dense layer with int8 kernels, its input and output of that type."""
    tf = import_tensorflow()
    layers = tf.keras.layers
    net = tf.keras.Sequential([layers.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3, use_bias=False)])
    net.set_weights([WEIGHTS])
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in X)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(kind)
    return converter.convert()


def linear(rows):
    """A dense layer behind a reshape whose constant says so many rows."""
    tf = import_tensorflow()
    return lambda x: tf.matmul(tf.reshape(x, [rows, 36]), tf.constant(WEIGHTS))


@pytest.mark.parametrize("own", [1, 4])
@pytest.mark.parametrize("batch", [1, 8])
def test_a_model_whose_reshape_fixes_the_batch_is_given_that_batch(runtime, own, batch):
    predict = runtime.load(converted(linear(own), (own, 6, 6, 1)), batch)
    for rows in (11, 0, 1, 5, 11):
        np.testing.assert_allclose(predict(X[:rows]), LOGITS[:rows], atol=1e-4)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # of TensorFlow's converter
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_quantised_ends_are_scaled(runtime, kind):
    predict = runtime.load(quantised(kind), 4)
    logits = predict(X)
    assert logits.dtype == np.float32
    step = np.ptp(LOGITS) / 255
    np.testing.assert_allclose(logits, LOGITS, atol=6 * step)
    above = predict(X * 100)  # the range that the input was quantised for: cut off, not wrapped around
    np.testing.assert_array_equal(above, predict(np.clip(X * 100, 0, 1)))


@pytest.mark.parametrize("kind", ["uint8", "int16", "float64"])
def test_records_of_another_type_are_cast(runtime, kind):
    x = (X * 9).astype(kind)
    predict = runtime.load(converted(linear(-1), (None, 6, 6, 1)), 4)
    np.testing.assert_allclose(predict(x), x.reshape(11, 36).astype(np.float32) @ WEIGHTS, atol=1e-4)


def test_records_of_another_shape_are_refused_and_do_no_harm(runtime):
    predict = runtime.load(converted(linear(-1), (None, 6, 6, 1)), 4)
    with pytest.raises(ModelRefused, match=r"its records have shape \(6, 6, 1\), not \(6, 5, 1\)"):
        predict(X[:, :, :5])
    np.testing.assert_allclose(predict(X), LOGITS, atol=1e-4)


def test_what_is_no_classifier_is_refused(runtime):
    tf = import_tensorflow()
    for function, shapes, why in (
        (lambda x: (x, x + 1), [(None, 3)], "2 outputs"),
        (lambda x, y: x + y, [(None, 3), (None, 3)], "2 inputs"),
        (lambda x: x, [(None, 3, 3)], r"its output is \(1, 3, 3\)"),
        (lambda x: tf.reduce_sum(x), [(None, 3)], "single number"),
        (lambda x: tf.reduce_sum(x, axis=0, keepdims=True)[:, :2], [(3, 3)], r"its output is \(1, 2\) for 3 records"),
    ):
        with pytest.raises(ModelRefused, match=why):
            runtime.load(converted(function, *shapes), 4)


def test_float_models_run_on_xnnpack():
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=converted(linear(-1), (None, 6, 6, 1)), num_threads=1)
    interpreter.allocate_tensors()
    assert "DELEGATE" in {op["op_name"] for op in interpreter._get_ops_details()}
