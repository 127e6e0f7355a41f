"""Full quantisation with int16 activations and int8 weights: for nets whose activations do not bear 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.steps._conversion import converted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "convert"
SETTINGS: Mapping[str, float | int | str] = {}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with a `.tflite` of int8 weights and int16 activations; operators without them stay float32."""

    def configure(tf: Any, converter: Any) -> None:
        ops = tf.lite.OpsSet
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [
            ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            ops.TFLITE_BUILTINS,
        ]

    return converted(candidate, data, "int16x8", configure, calibrated=True)
