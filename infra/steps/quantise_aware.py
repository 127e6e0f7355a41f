"""Quantisation-aware training: the net learns with the rounding to int8 that `int8` will do, ranges included.

B. Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR
2018, as tensorflow-model-optimization has it; with its schemes that keep zeros, clusters or both (PQAT, CQAT, PCQAT).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow
from infra.steps._retraining import RETRAINING, cloned, require_kernels, retrain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "quantise"
SETTINGS: Mapping[str, float | int | str] = {
    "keep": "nothing",
    **RETRAINING,
    "epochs": 5,
    "learning_rate": 0.0003,
}
CHOICES = {"keep": ("nothing", "zeros", "clusters", "zeros-and-clusters")}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with a net that rounds as int8 does; the step `int8` has to follow.

    Args:
        candidate: a functional or sequential net of layers that have a rule for it.
        data: `train` is used, nothing else.
        settings: `keep` says what of pruning and clustering has to stay.
        seed: of the training.
        teacher: whose answers are kept to, or None.

    Raises:
        ModelRefused: a layer has no rule.
    """
    tf = import_tensorflow()
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_configs import (
        Default8BitOutputQuantizeConfig,
    )
    from tensorflow_model_optimization.quantization import keras as quantization

    require_kernels(candidate.keras, "quantise_aware")
    tf.keras.utils.set_random_seed(seed)

    def wrapped(layer: Any) -> Any:
        if isinstance(layer, tf.keras.layers.Rescaling):
            return quantization.quantize_annotate_layer(layer, Default8BitOutputQuantizeConfig())
        return quantization.quantize_annotate_layer(layer)

    annotated = cloned(candidate.keras, wrapped, "quantise_aware")
    try:
        with quantization.quantize_scope():
            net = quantization.quantize_apply(annotated, scheme=_scheme(str(settings["keep"])))
    except (RuntimeError, ValueError) as error:
        raise ModelRefused(
            f"step quantise_aware has no rule for this model ({' '.join(str(error).split())[:160]}); leave the step out"
        ) from error
    if data.train.x.dtype == np.uint8:
        _start_input_range(net)
    retrain(net, data, settings, seed, teacher, "quantise")
    return replace(candidate, keras=net)


def _scheme(keep: str) -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        default_8bit_cluster_preserve_quantize_scheme as clusters,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
        default_8bit_prune_preserve_quantize_scheme as zeros,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as plain,
    )

    return {
        "nothing": lambda: plain.Default8BitQuantizeScheme(),
        "zeros": lambda: zeros.Default8BitPrunePreserveQuantizeScheme(),
        "clusters": lambda: clusters.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False),
        "zeros-and-clusters": lambda: clusters.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True),
    }[keep]()


def _start_input_range(net: Any) -> None:
    """Let the input's range be 0 to 255 from the beginning (it only grows), so that uint8 records go in as they are."""
    for layer in net.layers:
        if type(layer).__name__ == "QuantizeLayer":
            for variable in layer.weights:
                if variable.name.endswith("_min:0"):
                    variable.assign(0.0)
                if variable.name.endswith("_max:0"):
                    variable.assign(255.0)
