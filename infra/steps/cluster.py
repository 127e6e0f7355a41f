"""Weight clustering: every kernel keeps a few values, which are trained on; zeros of pruning stay zero.

S. Han, H. Mao, W. J. Dally, Deep Compression, ICLR 2016, as tensorflow-model-optimization has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infra.recipes import import_tensorflow
from infra.steps._retraining import RETRAINING, cloned, has_kernel, kernel, require_kernels, retrain, sparsity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "share"
SETTINGS: Mapping[str, float | int | str] = {
    "clusters": 16,  # values in a kernel, zero included; a kernel with no more weights than that is left alone
    **RETRAINING,
    "learning_rate": 0.0005,
}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with `clusters` values in every kernel, as the note `clusters` says.

    Args:
        candidate: a functional or sequential net; where its kernels are zero they stay so.
        data: `train` is used, nothing else.
        settings: those of `SETTINGS`.
        seed: of the first values and of the training.
        teacher: whose answers are kept to, or None.

    Raises:
        ModelRefused: there is nothing to cluster.
    """
    tf = import_tensorflow()
    from tensorflow_model_optimization.clustering import keras as clustering
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights

    require_kernels(candidate.keras, "cluster")
    tf.keras.utils.set_random_seed(seed)
    count = int(settings["clusters"])
    weights = {layer.name: kernel(layer).numpy() for layer in candidate.keras.layers if has_kernel(layer)}
    start = clustering.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrapped(layer: Any) -> Any:
        values = weights.get(layer.name, np.zeros(0))
        if len(np.unique(values)) <= count:
            layer.trainable = not values.size  # it has so few values already: what is zero stays so
            return layer
        return ClusterWeights(layer, count, start, preserve_sparsity=bool((values == 0).mean() > 1 / count))

    net = _wrapped_around(candidate.keras, wrapped)
    retrain(net, data, settings, seed, teacher, "cluster")
    stripped = clustering.strip_clustering(net)
    stripped.trainable = True
    return replace(
        candidate, keras=stripped, notes={**candidate.notes, "clusters": float(count), "sparsity": sparsity(stripped)}
    )


def _wrapped_around(net: Any, wrapped: Any) -> Any:
    """The net in wrappers that see its weights: they choose the first values when they are built."""
    tf = import_tensorflow()
    copy = cloned(net, lambda layer: layer, "cluster")
    wrappers = {layer.name: wrapped(layer) for layer in copy.layers}
    return tf.keras.models.clone_model(copy, clone_function=lambda layer: wrappers[layer.name])
