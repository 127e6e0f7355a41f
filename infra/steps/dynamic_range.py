"""Post-training quantisation of the weights to int8; activations are quantised on the device, batch by batch.

With one scale for each output of a dense layer the model needs FULLY_CONNECTED of version 12, which tflite-runtime
2.14 lacks. `dense_scales: tensor` gives a dense layer one scale, which that runtime loads, in as many bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.steps._conversion import converted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "convert"
SETTINGS: Mapping[str, float | int | str] = {"dense_scales": "tensor"}
CHOICES = {"dense_scales": ("tensor", "channel")}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with a `.tflite` of int8 weights and float32 activations; tensors under 1,024 values stay float32.

    Args:
        candidate: a net that was not trained with quantisation.
        data: for dtype and shape.
        settings: `dense_scales`, one for each `tensor` or `channel`.
        seed: not used.
        teacher: not used.
    """

    def configure(tf: Any, converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = settings["dense_scales"] == "tensor"

    return converted(candidate, data, "dynamic_range", configure)
