"""Take out units that no weight leads on from, or to: what is left gives the same logits from fewer numbers.

A unit whose outgoing weights are all zero says nothing; one whose incoming weights are all zero says a constant, which
moves into the biases of the next layer. Their biases, and the zeros around them, would cost bytes in the stored file
and time in the runtime, whose kernels gain nothing from zeros. It trains nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow
from infra.steps import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from infra.recipes import TrainingData

VERSION = 1
STAGE = "prune"
SETTINGS: Mapping[str, float | int | str] = {}
WEIGHTED = ("Conv2D", "Dense")
CONSTANT = ("MaxPooling2D", "AveragePooling2D", "Flatten", "Dropout")  # a constant channel stays that constant
PASSING = (*CONSTANT, "ReLU", "Activation", "BatchNormalization")  # what treats every channel by itself


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate without its dead units; the same one if there are none.

    Raises:
        ModelRefused: the net is no chain of the layers that this step knows.
    """
    layers = _chain(candidate.keras)
    held = [layer.get_weights() for layer in layers]
    masks = [candidate.masks.get(layer.weights[0].name) if layer.weights else None for layer in layers]
    before = sum(weights[0].shape[-1] for weights in held if weights)
    while _dropped(layers, held, masks):
        pass
    left = sum(weights[0].shape[-1] for weights in held if weights)
    notes = {**candidate.notes, "dropped_units": candidate.notes.get("dropped_units", 0.0) + before - left}
    if left == before:
        return Candidate(candidate.keras, masks=candidate.masks, notes=notes)
    net = _rebuilt(candidate.keras, layers, held)
    smaller = {layer.weights[0].name: mask for layer, mask in zip(_chain(net), masks, strict=True) if mask is not None}
    return Candidate(net, masks=smaller, notes=notes)


def _chain(net: Any) -> list[Any]:
    """The layers but the input, first to last."""
    layers = [layer for layer in net.layers if type(layer).__name__ != "InputLayer"]
    for before, layer in pairwise(net.layers):
        if layer.input is not before.output:
            raise ModelRefused(f"step drop_dead_units: layer {layer.name!r} does not follow {before.name!r} alone")
    weighted = [i for i, layer in enumerate(layers) if type(layer).__name__ in WEIGHTED]
    for layer in layers[weighted[0] :] if weighted else layers:
        if type(layer).__name__ not in (*WEIGHTED, *PASSING) or getattr(layer, "groups", 1) != 1:
            raise ModelRefused(f"step drop_dead_units: it does not know layers like {layer.name!r}; leave it out")
    return layers


def _dropped(layers: list[Any], held: list[list[NDArray[Any]]], masks: list[Any]) -> bool:
    """Take the dead units out of every hidden layer, last to first; says whether there were any."""
    weighted = [i for i, layer in enumerate(layers) if type(layer).__name__ in WEIGHTED]
    found = False
    for here, after in reversed([*pairwise(weighted)]):
        between = layers[here + 1 : after]
        kernel, units = held[here][0], held[here][0].shape[-1]
        onward = held[after][0].reshape(-1, units, held[after][0].shape[-1])  # (places, units, what they lead to)
        silent = ~onward.any(axis=(0, 2))
        constant = ~kernel.reshape(-1, units).any(axis=0) & ~silent
        if constant.any():
            exact = getattr(layers[after], "padding", "valid") == "valid" and layers[after].use_bias
            if exact and all(type(layer).__name__ in CONSTANT for layer in between):
                bias = held[here][1] if layers[here].use_bias else np.zeros(units, np.float32)
                value = np.asarray(layers[here].activation(import_tensorflow().constant(bias)))
                held[after][1] = held[after][1] + np.einsum("pij,i->j", onward[:, constant], value[constant])
                silent |= constant
        stay: NDArray[np.bool_] = ~np.asarray(silent)
        if not stay.any():
            stay[0] = True
        if stay.all():
            continue
        found = True
        shape = held[after][0].shape
        flat = len(shape) == 2
        held[here] = [array[..., stay] for array in held[here]]
        for i in range(here + 1, after):
            held[i] = [array[stay] for array in held[i]]
        held[after][0] = onward[:, stay].reshape((-1, shape[1]) if flat else (*shape[:2], -1, shape[3]))
        if masks[here] is not None:
            masks[here] = masks[here][..., stay]
        if masks[after] is not None:
            mask = masks[after].reshape(onward.shape)[:, stay]
            masks[after] = mask.reshape(held[after][0].shape)
    return found


def _rebuilt(net: Any, layers: list[Any], held: list[list[NDArray[Any]]]) -> Any:
    """A net of the same layers with the widths of these weights."""
    keras = import_tensorflow().keras
    x = record = keras.Input(net.input_shape[1:])
    for layer, weights in zip(layers, held, strict=True):
        config = layer.get_config()
        if type(layer).__name__ in WEIGHTED:
            config["filters" if "filters" in config else "units"] = weights[0].shape[-1]
        x = type(layer).from_config(config)(x)
    smaller = keras.Model(record, x)
    for layer, weights in zip(_chain(smaller), held, strict=True):
        layer.set_weights(weights)
    return smaller
