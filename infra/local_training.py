"""Training at a site: the net of a model's edge variant, from given weights, on the site's own records.

The net is that of the recipe `distil_int8`, in float32, trained on the labels alone: the teacher of the recipe saw
the records of all sites. Quantised, it is an edge variant like any other. TensorFlow is imported inside.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import BadInput, CatalogError, ObjectMissing, StoreFull
from infra import keys, weights
from infra.recipes import _training, import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.federation import LocalTraining, Start
    from data_catalog.nouns import Model, VariantCard
    from infra.recipes import Examples
    from infra.storage import Store
    from infra.weights import Weights

RECIPE = "distil_int8"
FORWARD_ROWS = 256
_building = threading.RLock()  # Keras counts its layers in one place, and sites of one machine train side by side


@dataclass(frozen=True, slots=True)
class Learnt:
    """What training at a site gives away: weights, a loss, a count."""

    weights: list[NDArray[np.float32]]
    loss: float  # mean cross-entropy of the new weights on the training rows
    held_out_right: int  # rows of the held-out split that the weights it began with are right on


def check(model: Model) -> None:
    """Raise CatalogError for a model whose edge variant is of a recipe whose net is not known here."""
    recipe = model.variants["edge"].recipe
    if recipe != RECIPE:
        raise CatalogError(
            f"model {model.name}, key `variants.edge.recipe`: {recipe!r} cannot be trained at sites; use {RECIPE!r}"
        )


def network(model: Model, shape: Sequence[int]) -> Any:
    """The Keras net of the model's edge variant.

    Args:
        model: says filters and classes.
        shape: of a record.

    Raises:
        CatalogError: as `check`.
        BadInput: there is no TensorFlow.
    """
    check(model)
    tensorflow()
    with _building:
        return _training.network(shape, model.variants["edge"].settings["filters"], 1, 0, len(model.classes))  # type: ignore[arg-type]


def tensorflow() -> Any:
    """TensorFlow.

    Raises:
        BadInput: it is not installed, as on an edge site that only answers.
    """
    try:
        return import_tensorflow()
    except ModuleNotFoundError as error:
        raise BadInput(
            f"training at a site needs the package {error.name!r}; pip install 'cloudedge[cloud]' there"
        ) from error


def fresh_weights(model: Model, shape: Sequence[int]) -> list[NDArray[np.float32]]:
    """The weights of an untrained net, by the model's seed; raises as `network`."""
    with _building:
        tensorflow().keras.utils.set_random_seed(model.seed)
        fresh: list[NDArray[np.float32]] = network(model, shape).get_weights()
    return fresh


def learn(
    model: Model,
    origin: Weights,
    taught: Examples,
    held_out: Examples,
    local: LocalTraining,
    rate: float,
    seed: int,
    *,
    frozen: bool,
) -> Learnt:
    """Train a few epochs with Adam, every record from another view in each if it is an image.

    Args:
        model: the net, and `shift`, `turn` and `scale` of the views.
        origin: the weights to begin with.
        taught: the site's training records, at least one.
        held_out: on which the weights to begin with are judged; perhaps none.
        local: epochs and batch.
        rate: of learning, in this round.
        seed: of order and views.
        frozen: normalise by the statistics in the weights, which stay, not by those of each batch (see `freezes`).
    """
    tf = tensorflow()
    x, y, shape = taught.x, taught.y, taught.x.shape[1:]
    batch = min(local.batch, len(y))
    steps, images = len(y) // batch, x.ndim == 4
    settings, random = model.variants["edge"].settings, np.random.default_rng(seed)
    with _trainer(model, shape) as trainer:
        net, optimizer = trainer.net, trainer.optimizer
        net.set_weights(origin)
        right = int((_logits(net, held_out.x).argmax(axis=1) == held_out.y).sum()) if len(held_out.y) else 0
        for variable in optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        optimizer.learning_rate.assign(rate)
        for _ in range(local.epochs):
            for chosen in random.permutation(len(y))[: steps * batch].reshape(steps, -1):
                views = (
                    _training.random_views(batch, shape, settings, random)
                    if images
                    else np.zeros((batch, 8), np.float32)
                )
                trainer.step(tf.constant(x[chosen]), tf.constant(views), tf.constant(y[chosen]), frozen)
        loss = float(
            tf.keras.losses.sparse_categorical_crossentropy(y, _logits(net, x), from_logits=True).numpy().mean()
        )
        return Learnt(net.get_weights(), loss, right)


def freezes(number: int, rounds: int, start: Start) -> bool:
    """Whether the statistics of batch normalisation stay as they are in round `number`, from 1.

    A site sees few of the classes, so its statistics are not everybody's. Once those of all are known, which is after
    half of the rounds, or from the beginning if the net was trained before, all use them. After J. Zhong, H.-Y. Chen,
    W.-L. Chao, Making Batch Normalization Great in Federated Deep Learning, 2023.
    """
    return start == "published" or number > rounds / 2


@dataclass(frozen=True, slots=True)
class _Trainer:
    """A net with its optimizer and its compiled step, which takes longer to compile than a round to compute."""

    net: Any
    optimizer: Any
    step: Any


_idle: dict[str, list[_Trainer]] = {}


@contextmanager
def _trainer(model: Model, shape: Sequence[int]) -> Iterator[_Trainer]:
    """One that nobody else uses; one that is idle, if there is one for such a net."""
    kind = repr((shape, model.variants["edge"].settings["filters"], len(model.classes)))
    with _building:
        idle = _idle.setdefault(kind, [])
        trainer = idle.pop() if idle else _compiled(model, shape)
    yield trainer
    idle.append(trainer)


def _compiled(model: Model, shape: Sequence[int]) -> _Trainer:
    tf = tensorflow()
    net = network(model, shape)
    optimizer = tf.keras.optimizers.Adam()
    optimizer.build(net.trainable_variables)
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(x: Any, views: Any, y: Any, frozen: bool) -> None:
        shown = tf.cast(x, tf.float32)
        if len(shape) == 3:
            shown = tf.raw_ops.ImageProjectiveTransformV3(
                images=shown, transforms=views, output_shape=list(shape[:2]),
                interpolation="BILINEAR", fill_mode="CONSTANT", fill_value=0.0,
            )  # fmt: skip
        with tf.GradientTape() as tape:
            value = cross_entropy(y, net(shown, training=not frozen))
        gradients = tape.gradient(value, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))

    return _Trainer(net, optimizer, step)


def put_weights(store: Store, model: str, version: str, net: Any) -> None:
    """Store the float32 net of a version's edge variant beside it, for sites to learn on from; None: it has none."""
    if net is not None:
        store.put(keys.variant(model, version, "edge", weights.FILE), weights.pack(net.get_weights()))


def published_weights(store: Store, card: VariantCard) -> list[NDArray[np.float32]]:
    """What `put_weights` stored.

    Raises:
        BadInput: the variant was published without it.
    """
    key = keys.variant(card.model, card.version, card.name, weights.FILE)
    try:
        return weights.unpack(store.get(key), key)
    except ObjectMissing as error:
        raise BadInput(
            f"the edge variant of {card.model} {card.version} was published without its float32 net ({key}); begin with"
            " a fresh one: `--start fresh`"
        ) from error


def edge_variant(model: Model, trained: Weights, shape: Sequence[int], calibration: NDArray[np.generic]) -> bytes:
    """The net of those weights as the model's edge variant: a `.tflite` of int8.

    Args:
        model: whose edge variant.
        trained: the weights of the net.
        shape: of a record.
        calibration: records that give the ranges.
    """
    net = network(model, shape)
    net.set_weights(trained)
    from infra.recipes.distil_int8 import quantised

    return quantised(net, calibration)


def keep(home: Path, site: str, model: str, data: bytes) -> Path:
    """Write what a site learnt to its own folder, where it is found without the store.

    Raises:
        StoreFull: the disk has no space for it.
    """
    path = home / "sites" / site / "training" / f"{model}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{model}.{os.getpid()}-{time.time_ns()}")
        unfinished.write_bytes(data)
        unfinished.rename(path)
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); free some space and run again") from error
    return path


def rate_in(local: LocalTraining, number: int, rounds: int) -> float:
    """The rate of learning in round `number`, from 1: half a cosine over the rounds, so that the sites' steps get small."""
    return local.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (number - 1) / rounds)))


def _logits(net: Any, x: NDArray[np.generic]) -> NDArray[np.float32]:
    tf = import_tensorflow()
    parts = [
        net(tf.constant(x[i : i + FORWARD_ROWS], tf.float32), training=False).numpy()
        for i in range(0, len(x), FORWARD_ROWS)
    ]
    return np.concatenate(parts)
