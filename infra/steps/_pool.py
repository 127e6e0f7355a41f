"""What the steps that retrain share: a pool of views with the teacher's answers, and the loop over it.

A teacher is often dearer to ask than the net is to train. So it answers a pool of random views once, and the steps of
all recipes with the same data, teacher and views draw from that pool.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infra import keys
from infra.progress import publish
from infra.recipes import import_tensorflow
from infra.recipes._training import random_views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from infra.recipes import TrainingData

SETTINGS: Mapping[str, float | int | str] = {
    "steps": 1500,  # batches
    "batch": 100,
    "learning_rate": 0.002,  # of Adam, falling to zero along a cosine
    "views": 60_000,  # at least as many images in the pool; each record is in it equally often
    "shift": 1.5,  # pixels
    "turn": 10.0,  # degrees
    "scale": 0.1,  # share
    "temperature": 4.0,  # of the teacher's soft labels
    "hard": 0.1,  # share of the loss on the true labels
}
CHUNK = 50  # batches a call of the graph
ASKED = 500  # rows that the teacher answers at a time


@dataclass(frozen=True, slots=True)
class Pool:
    """Records to learn from: `x` (n, *shape) as in the shards, `y` (n,) classes, `soft` (n, classes) teacher's logits."""

    x: NDArray[np.generic]
    y: NDArray[np.int64]
    soft: NDArray[np.float32] | None  # None: no teacher


_pools: dict[str, Pool] = {}  # the last one


def pool(data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Pool:
    """Views of the training records; records that are no images are taken as they are."""
    x, y = data.train.x, data.train.y
    weights = [] if teacher is None else teacher.get_weights()
    wanted = [float(settings[key]) for key in ("views", "shift", "turn", "scale")]
    name = keys.digest_of(
        "pool", [hashlib.sha256(part.tobytes()).hexdigest() for part in (x, y, *weights)], wanted, seed
    )
    if name not in _pools:
        if x.ndim == 4:
            times = max(1, -(-int(settings["views"]) // len(x)))
            random = np.random.default_rng(seed)
            x = np.concatenate([_seen(x, settings, random) for _ in range(times)])
            y = np.tile(y, times)
        soft = None if teacher is None else answers(teacher, x)
        _pools.clear()
        _pools[name] = Pool(x, y, soft)
    return _pools[name]


def _seen(x: NDArray[np.generic], settings: Mapping[str, Any], random: np.random.Generator) -> NDArray[np.generic]:
    """Every image once, from a random view, in its own dtype."""
    tf = import_tensorflow()
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=x.astype(np.float32), transforms=random_views(len(x), x.shape[1:], settings, random),
        output_shape=list(x.shape[1:3]), interpolation="BILINEAR", fill_mode="CONSTANT", fill_value=0.0,
    ).numpy()  # fmt: skip
    seen: NDArray[np.generic] = (np.rint(images) if x.dtype.kind in "iu" else images).astype(x.dtype)
    return seen


def answers(net: Any, x: NDArray[np.generic]) -> NDArray[np.float32]:
    """(n, classes) logits of a Keras model."""
    tf = import_tensorflow()
    ask = tf.function(lambda part: net(tf.cast(part, tf.float32), training=False))
    return np.concatenate([ask(tf.constant(x[i : i + ASKED])).numpy() for i in range(0, len(x), ASKED)])


def copy(net: Any) -> Any:
    """A Keras model of its own with the same layers and weights."""
    twin = import_tensorflow().keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    return twin


def kernels(net: Any) -> list[Any]:
    """The variables that are pruned: matrices and filters, no biases and no statistics."""
    return [variable for variable in net.trainable_variables if len(variable.shape) > 1]


def retrain(
    net: Any,
    lessons: Pool,
    settings: Mapping[str, Any],
    seed: int,
    stage: str,
    *,
    trained: Sequence[Any] | None = None,
    gradients_of: Callable[[Sequence[Any]], Sequence[Any]] = lambda gradients: gradients,
    after_batch: Callable[[], None] = lambda: None,
    between: Callable[[float], None] = lambda share: None,
) -> None:
    """Fit with Adam on a cosine schedule to the labels and, where there is a teacher, to its softened answers.

    The loss is `hard` times the cross-entropy with the labels and the rest times the squared temperature times that
    with the teacher's softened answers (Hinton, Vinyals, Dean 2015).

    Args:
        net: changed in place.
        lessons: what to learn from.
        settings: as `SETTINGS`.
        seed: of the order.
        stage: for the progress.
        trained: what Adam moves; the net's own variables if left out.
        gradients_of: from the gradients of the net's variables to those of `trained`; part of the graph.
        after_batch: what follows every update; part of the graph.
        between: called every few batches with the share of them that is done.
    """
    tf = import_tensorflow()
    steps, batch = int(settings["steps"]), min(int(settings["batch"]), len(lessons.x))
    heat, hard = float(settings["temperature"]), float(settings["hard"]) if lessons.soft is not None else 1.0
    rate = tf.keras.optimizers.schedules.CosineDecay(float(settings["learning_rate"]), steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    variables = net.trainable_variables
    moved = list(variables if trained is None else trained)
    optimizer.build(moved)
    soft = np.zeros((len(lessons.y), 1), np.float32) if lessons.soft is None else lessons.soft
    x, y, soft = tf.constant(lessons.x), tf.constant(lessons.y), tf.constant(soft)

    @tf.function  # type: ignore[untyped-decorator]
    def run(orders: Any) -> None:
        for order in orders:
            labels = tf.gather(y, order)
            with tf.GradientTape() as tape:
                logits = net(tf.cast(tf.gather(x, order), tf.float32), training=True)
                loss = hard * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                if hard < 1:
                    told = tf.nn.softmax(tf.gather(soft, order) / heat)
                    loss += (1 - hard) * heat**2 * tf.nn.softmax_cross_entropy_with_logits(told, logits / heat)
                loss = tf.reduce_mean(loss)
            gradients = gradients_of(tape.gradient(loss, variables))
            optimizer.apply_gradients(zip(gradients, moved, strict=True))
            after_batch()

    random = np.random.default_rng(seed)
    order = np.zeros(0, np.int64)
    for start in range(0, steps, CHUNK):
        between(start / steps)
        count = min(CHUNK, steps - start)
        while len(order) < count * batch:
            order = np.concatenate([order, random.permutation(len(lessons.x))])
        run(tf.constant(order[: count * batch].reshape(count, batch)))
        order = order[count * batch :]
        publish("compress", stage, start + count, steps, "batches")
