"""Magnitude pruning, layer by layer: the smallest weights become zero, gradually, while the net is trained on.

M. Zhu, S. Gupta, To prune, or not to prune, 2017 (the polynomial schedule), as tensorflow-model-optimization has it.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from data_catalog.errors import CatalogError
from infra.recipes import import_tensorflow
from infra.steps._retraining import (
    RETRAINING,
    cloned,
    has_kernel,
    inner,
    kernel,
    require_kernels,
    retrain,
    sparsity,
    updates,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "prune"
SETTINGS: Mapping[str, float | int | str] = {
    "sparsity": 0.8,  # of every kernel in the end, 1 = all zero
    "layers": "",  # other sparsities by pattern of the layer's name, the first match wins: `conv*=0.5 logits=0`
    "first_sparsity": 0.0,  # with which pruning begins
    "until": 0.6,  # share of the training after which nothing more is pruned
    "power": 3.0,  # of the polynomial
    **RETRAINING,
}
UPDATES = 50  # of the masks, over the schedule


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with sparse kernels, their masks, and the share of zeros as the note `sparsity`.

    Args:
        candidate: a functional or sequential net.
        data: `train` is used, nothing else.
        settings: those of `SETTINGS`.
        seed: of the training.
        teacher: whose answers are kept to, or None.

    Raises:
        ModelRefused: there is nothing to prune.
        CatalogError: a sparsity lies outside 0 to 1.
    """
    import_tensorflow()
    from tensorflow_model_optimization.sparsity import keras as pruning

    require_kernels(candidate.keras, "prune")
    last = max(1, int(float(settings["until"]) * updates(data, settings)))

    def wrapped(layer: Any) -> Any:
        final = _sparsity_of(layer.name, settings)
        if not has_kernel(layer) or not final:
            return layer
        first = min(final, float(settings["first_sparsity"]))
        schedule = pruning.PolynomialDecay(first, final, 0, last, float(settings["power"]), max(1, last // UPDATES))
        return pruning.prune_low_magnitude(layer, schedule)

    net = cloned(candidate.keras, wrapped, "prune")
    pruned = [layer for layer in net.layers if hasattr(layer, "pruning_obj")]
    for layer in pruned:
        layer.pruning_step.assign(0)
    retrain(net, data, settings, seed, teacher, "prune")
    for layer in pruned:
        layer.pruning_obj.weight_mask_op()
    masks = {kernel(inner(layer)).name: (kernel(inner(layer)).numpy() != 0) for layer in pruned}
    stripped = pruning.strip_pruning(net)
    return replace(
        candidate, keras=stripped, masks={**candidate.masks, **masks},
        notes={**candidate.notes, "sparsity": sparsity(stripped)},
    )  # fmt: skip


def _sparsity_of(name: str, settings: Mapping[str, Any]) -> float:
    found = settings["sparsity"]
    for part in str(settings["layers"]).split():
        pattern, _, value = part.partition("=")
        if fnmatch(name, pattern):
            found = value
            break
    try:
        share = float(found)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise CatalogError(f"step prune: the sparsity {found!r} of layer {name} is no share; write 0.8 for 80 % zeros")
    return share
