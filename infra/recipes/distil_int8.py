"""The edge variant: a small net distilled from the cloud's, then quantised to full int8 for LiteRT.

Distillation: G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015. The soft
loss is the cross-entropy with the teacher's softened answers on the same view of an image, times the squared
temperature. Quantisation ranges come from the calibration split (the representative dataset); input stays
uint8 as in the shards, output is float32 logits, so that confidence keeps its resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import Made, TrainingData, import_tensorflow
from infra.recipes._training import network, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def make(data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Made | None) -> Made:
    """Distil and quantise.

    Args:
        data: `train` teaches, `calibration` gives the ranges.
        settings: `filters`, `epochs`, `batch`, `learning_rate`, `shift`, `turn`, `scale`, `temperature` of the soft labels,
            and `hard`, the share of the loss on true labels.
        seed: of weights, order and views.
        teacher: the cloud variant.

    Raises:
        ModelRefused: there is no teacher, or the records are not uint8.
    """
    if teacher is None:
        raise ModelRefused("recipe distil_int8 needs a cloud variant to distil from; give the model one")
    if data.train.x.dtype != np.uint8:
        raise ModelRefused(
            f"recipe distil_int8 needs uint8 records, not {data.train.x.dtype}; cast them in the dataset"
        )
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(seed)
    net = network(data.train.x.shape[1:], settings["filters"], 1, 0, data.classes)
    heat, hard = float(settings["temperature"]), float(settings["hard"])
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(images: Any, labels: Any, logits: Any) -> Any:
        soft = tf.nn.softmax(teacher.keras(images, training=False) / heat)
        softened = tf.nn.softmax_cross_entropy_with_logits(soft, logits / heat)
        return hard * cross_entropy(labels, logits) + (1 - hard) * heat**2 * tf.reduce_mean(softened)

    train(net, data.train.x, data.train.y, settings, seed, loss, "student")
    return Made(quantised(net, data.calibration.x), "model.tflite", net)


def quantised(net: Any, calibration: np.ndarray[Any, Any]) -> bytes:
    """The net as a `.tflite` of int8 weights and activations, uint8 in, float32 logits out."""
    tf = import_tensorflow()

    def representative_dataset() -> Iterator[list[np.ndarray[Any, Any]]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_dataset
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    model: bytes = converter.convert()
    return model
