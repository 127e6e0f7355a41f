"""The cloud variant: a convolutional net trained on the labels, as a TensorFlow SavedModel and as a float32 `.tflite`.

A small net is several times faster in LiteRT, through XNNPACK, than as a SavedModel; a site uses what it measures to be.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.recipes import Made, TrainingData, import_tensorflow
from infra.recipes._training import network, train

if TYPE_CHECKING:
    from collections.abc import Mapping


def make(data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Made | None) -> Made:
    """Train with cross-entropy.

    Args:
        data: `train` is used, nothing else.
        settings: `filters`, `units`, `epochs`, `batch`, `learning_rate`, `shift`, `turn`, `scale`.
        seed: of weights, order, views and dropout.
        teacher: not used.
    """
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(seed)
    shape = data.train.x.shape[1:]
    net = network(shape, settings["filters"], 2, int(settings["units"]), data.classes)
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    train(net, data.train.x, data.train.y, settings, seed, lambda _, y, logits: cross_entropy(y, logits), "teacher")
    others = {"litert": ("model.tflite", float32(net))}
    return Made(saved_model(net, data.train.x.dtype.name), "saved_model.tar", net, others)


def float32(net: Any) -> bytes:
    """The net as a `.tflite` of float32; the runtime casts the records."""
    model: bytes = import_tensorflow().lite.TFLiteConverter.from_keras_model(net).convert()
    return model


def saved_model(net: Any, dtype: str) -> bytes:
    """A tar of the SavedModel whose `serve` maps (n, ...) records of `dtype` to logits."""
    tf = import_tensorflow()
    module = tf.Module()
    module.net = net
    spec = tf.TensorSpec((None, *net.input_shape[1:]), dtype)
    module.serve = tf.function(lambda x: net(tf.cast(x, tf.float32), training=False), input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "saved_model"
        tf.saved_model.save(module, str(target))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(target.rglob("*")):
                archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return buffer.getvalue()
