"""Post-training quantisation to float16: weights in half the bytes, computed in float32."""

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
    """The candidate with a `.tflite` of float16 weights."""

    def configure(tf: Any, converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    return converted(candidate, data, "float16", configure)
