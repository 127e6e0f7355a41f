"""Fold batch normalisation into the layer before it, so that what later steps do to its weights is what is stored.

The converter folds it as well, channel by channel, and so undoes shared values: sixteen values times as many scales.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infra.recipes import import_tensorflow
from infra.steps._retraining import cloned, require_kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "fold"
SETTINGS: Mapping[str, float | int | str] = {}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate without batch normalisation after convolutions and dense layers; its answers stay the same.

    Raises:
        ModelRefused: the net has no layers that can be looked at.
    """
    require_kernels(candidate.keras, "fold")
    keras = import_tensorflow().keras
    pairs = {norm: layer for layer in candidate.keras.layers for norm in _folds_into(layer)}
    before = {layer.name: norm for norm, layer in pairs.items()}

    def wrapped(layer: Any) -> Any:
        if layer.name in before:
            return layer.__class__.from_config(layer.get_config() | {"use_bias": True, "bias_initializer": "zeros"})
        if layer.name in {norm.name for norm in pairs}:
            return keras.layers.Activation("linear", name=layer.name)
        return layer

    net = cloned(candidate.keras, wrapped, "fold", skip={*before, *(norm.name for norm in pairs)})
    for norm, layer in pairs.items():
        kernel, *rest = layer.get_weights()
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
        gain = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
        bias = ((rest[0] if rest else 0) - mean) * gain + (norm.beta.numpy() if norm.center else 0)
        net.get_layer(layer.name).set_weights([kernel * gain, bias])
    return replace(candidate, keras=net)


def _folds_into(layer: Any) -> list[Any]:
    """The batch normalisation that alone takes the layer's outcome, as it is, on its last axis; else none."""
    layers = import_tensorflow().keras.layers
    if type(layer) not in (layers.Dense, layers.Conv1D, layers.Conv2D) or len(layer.outbound_nodes) != 1:
        return []
    following = layer.outbound_nodes[0].outbound_layer
    linear = layer.get_config()["activation"] == "linear"
    last = len(layer.output_shape) - 1
    if linear and isinstance(following, layers.BatchNormalization) and list(following.axis) == [last]:
        return [following]
    return []
