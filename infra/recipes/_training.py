"""What the recipes share: a small net for the shape of a record, random views of images, the training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infra.progress import publish
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


def network(shape: Sequence[int], filters: Sequence[int], depth: int, units: int, classes: int) -> Any:
    """A Keras model from raw uint8-valued records to logits.

    For each of `filters` a block of `depth` convolutions with batch normalisation, halved by max pooling:
    3 x 3 for images (height, width, channels), 5 along a sequence (steps, channels), and dense layers of that
    width for vectors. Then a dense layer of `units` (none if 0) with dropout, then the logits. Scaling to
    [0, 1] is its first layer.
    """
    keras = import_tensorflow().keras
    layers = keras.layers
    record = x = keras.Input(tuple(shape), name="x")
    x = layers.Rescaling(1 / 255)(x)
    kernel, pool = ((3, 3), (2, 2)) if len(shape) == 3 else ((5, 1), (2, 1))
    if len(shape) == 2:
        x = layers.Reshape((shape[0], 1, shape[1]))(x)  # a sequence is an image one pixel wide
    for width in filters:
        for _ in range(depth):
            if len(shape) == 1:
                x = layers.Dense(width, use_bias=False)(x)
            else:
                x = layers.Conv2D(width, kernel, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        if len(shape) > 1:
            x = layers.MaxPooling2D(pool)(x)
    x = layers.Flatten()(x)
    if units:
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(0.5)(x)
    return keras.Model(record, layers.Dense(classes, name="logits")(x))


def random_views(size: int, shape: Sequence[int], settings: Mapping[str, Any], random: np.random.Generator) -> Any:
    """(size, 8) projective transforms: each image shifted, turned and scaled a little, about its centre.

    Args:
        size: how many.
        shape: (height, width, channels) of the images.
        settings: `shift` in pixels, `turn` in degrees, `scale` as a share.
        random: where the numbers come from.
    """
    turn = np.deg2rad(random.uniform(-1, 1, size) * float(settings["turn"]))
    scale = np.exp(random.uniform(-1, 1, (2, size)) * float(settings["scale"]))
    shift = random.uniform(-1, 1, (2, size)) * float(settings["shift"])
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    middle_y, middle_x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    views = np.zeros((size, 8), np.float32)
    views[:, 0], views[:, 1] = cos[0], -sin[0]
    views[:, 3], views[:, 4] = sin[1], cos[1]
    views[:, 2] = middle_x - cos[0] * middle_x + sin[0] * middle_y + shift[0]
    views[:, 5] = middle_y - sin[1] * middle_x - cos[1] * middle_y + shift[1]
    return views


def train(
    net: Any,
    x: NDArray[np.generic],
    y: NDArray[np.int64],
    settings: Mapping[str, Any],
    seed: int,
    loss: Callable[[Any, Any, Any], Any],
    stage: str,
) -> None:
    """Fit `net` with Adam on a cosine schedule, showing every image from another view in every epoch.

    Records that are no images are shown as they are; give them views by a transform for training.

    Args:
        net: changed in place.
        x: (n, ...) records.
        y: (n,) class numbers.
        settings: `epochs`, `batch`, `learning_rate`, and what `random_views` needs, if the records are images.
        seed: of order, views and dropout.
        loss: of a batch of records, of labels and of the net's logits.
        stage: for the progress.
    """
    tf = import_tensorflow()
    epochs, batch = int(settings["epochs"]), int(settings["batch"])
    steps = max(1, len(x) // batch)
    rate = tf.keras.optimizers.schedules.CosineDecay(float(settings["learning_rate"]), epochs * steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    random = np.random.default_rng(seed)
    are_images = x.ndim == 4

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(originals: Any, views: Any, labels: Any) -> None:
        shown = tf.cast(originals, tf.float32)
        if are_images:
            shown = tf.raw_ops.ImageProjectiveTransformV3(
                images=shown, transforms=views, output_shape=list(x.shape[1:3]),
                interpolation="BILINEAR", fill_mode="CONSTANT", fill_value=0.0,
            )  # fmt: skip
        with tf.GradientTape() as tape:
            value = loss(shown, labels, net(shown, training=True))
        gradients = tape.gradient(value, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))

    for epoch in range(epochs):
        order = random.permutation(len(x))[: steps * batch]
        for chosen in order.reshape(steps, -1):
            views = random_views(batch, x.shape[1:], settings, random) if are_images else np.zeros(0, np.float32)
            step(tf.constant(x[chosen]), tf.constant(views), tf.constant(y[chosen]))
        publish("train", stage, epoch + 1, epochs, "epochs")
