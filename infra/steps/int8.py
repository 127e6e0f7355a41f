"""Full quantisation to int8, weights and activations; uint8 records go in as they are, float32 logits come out.

After `quantise_aware` the ranges are those that were trained; else they come from the calibration rows.
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
SETTINGS: Mapping[str, float | int | str] = {"scales": "channel"}
CHOICES = {"scales": ("channel", "tensor")}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with a `.tflite` of int8 weights and activations.

    Args:
        candidate: any net, also one that `quantise_aware` made.
        data: `calibration` gives the ranges.
        settings: `scales`, one for each output `channel`, or for each `tensor`: a little smaller, a little worse.
        seed: not used.
        teacher: not used.
    """

    def configure(tf: Any, converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_disable_per_channel = settings["scales"] == "tensor"

    return converted(candidate, data, "int8", configure, calibrated=True, takes_uint8=True)
