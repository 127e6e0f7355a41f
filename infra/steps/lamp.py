"""Prune by layer-adaptive magnitude (LAMP), gradually, while retraining on labels and the teacher's answers.

The score of a weight is its square over the sum of the squares of all weights of its layer that are not smaller:
J. Lee et al., Layer-Adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021. The weights with the smallest scores
of the whole net go, so layers need no shares of their own; the largest weight of a layer scores 1 and is never first
to go. The share that is kept falls along a cubic: M. Zhu, S. Gupta, To Prune, or Not to Prune, 2017. Biases stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow
from infra.steps import Candidate, _pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from infra.recipes import TrainingData

VERSION = 1
STAGE = "prune"
SETTINGS: Mapping[str, float | int | str] = {
    **_pool.SETTINGS,
    "keep": 0.2,  # share of the kernels' weights that stay
    "begin": 0.1,  # share of the batches before the first weight goes,
    "end": 0.6,  # and after the last one
}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with `keep` of its weights, and masks of them.

    Raises:
        ModelRefused: `keep` is no share of the weights.
    """
    settings = {**SETTINGS, **settings}
    if not 0 < float(settings["keep"]) <= 1:
        raise ModelRefused(f"step lamp: `keep` is {settings['keep']}; give a share above 0 and at most 1")
    tf = import_tensorflow()
    net = _pool.copy(candidate.keras)
    pruned = _pool.kernels(net)
    masks = [tf.Variable(candidate.masks.get(v.name, np.ones(v.shape, np.float32)), trainable=False) for v in pruned]
    first = sum(float(mask.numpy().sum()) for mask in masks) / sum(mask.numpy().size for mask in masks)

    def mask_weights() -> None:
        for variable, mask in zip(pruned, masks, strict=True):
            variable.assign(variable * mask)

    def prune(share: float) -> None:
        begin, end, keep = (float(settings[key]) for key in ("begin", "end", "keep"))
        if share < begin:
            return
        left = max(0.0, 1 - (share - begin) / max(end - begin, 1e-9)) ** 3
        chosen = kept([v.numpy() for v in pruned], min(first, keep + (first - keep) * left))
        for mask, value in zip(masks, chosen, strict=True):
            mask.assign(value.astype(np.float32))
        mask_weights()

    lessons = _pool.pool(data, settings, seed, teacher)
    _pool.retrain(net, lessons, settings, seed, "lamp", after_batch=mask_weights, between=prune)
    named = {variable.name: mask.numpy() for variable, mask in zip(pruned, masks, strict=True)}
    density = sum(int((v.numpy() != 0).sum()) for v in pruned) / sum(v.numpy().size for v in pruned)
    return Candidate(net, masks={**candidate.masks, **named}, notes={**candidate.notes, "kept": density})


def scores(weights: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """LAMP scores in (0, 1], of the shape of `weights`; of a weight that is zero, 0."""
    squares = weights.astype(np.float64).ravel() ** 2
    order = np.argsort(squares, kind="stable")
    ascending = squares[order]
    rest = np.cumsum(ascending[::-1])[::-1]  # of this weight and all that come after it
    scored = np.zeros_like(squares)
    scored[order] = np.divide(ascending, rest, out=np.zeros_like(rest), where=rest > 0)
    return scored.reshape(weights.shape)


def kept(weights: Sequence[NDArray[np.floating[Any]]], share: float) -> list[NDArray[np.bool_]]:
    """Which weights stay, by layer: the `share` of all with the largest scores, and the largest one of every layer."""
    scored = [scores(layer) for layer in weights]
    every = np.concatenate([layer.ravel() for layer in scored])
    count = min(max(round(share * every.size), len(weights)), every.size)
    bound = max(np.partition(every, every.size - count)[every.size - count], np.nextafter(0, 1))
    return [layer >= min(bound, layer.max()) if layer.max() > 0 else layer > 0 for layer in scored]
