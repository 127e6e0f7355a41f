"""What the recipes share: a small convolutional net, random views of images and the training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infra.progress import publish
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


def convolutional_net(shape: Sequence[int], filters: Sequence[int], depth: int, units: int, classes: int) -> Any:
    """A Keras model from raw uint8-valued images to logits.

    For each of `filters` a block of `depth` 3x3 convolutions with batch normalisation, halved by max
    pooling; then a dense layer of `units` (none if 0) with dropout, then the logits. Scaling to [0, 1] is
    its first layer.
    """
    keras = import_tensorflow().keras
    layers = keras.layers
    image = x = keras.Input(tuple(shape), name="x")
    x = layers.Rescaling(1 / 255)(x)
    for width in filters:
        for _ in range(depth):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    if units:
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(0.5)(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x))


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

    Args:
        net: changed in place.
        x: (n, ...) records.
        y: (n,) class numbers.
        settings: `epochs`, `batch`, `learning_rate`, and what `random_views` needs.
        seed: of order, shifts and dropout.
        loss: of a batch of images, of labels and of the net's logits.
        stage: for the progress.
    """
    tf = import_tensorflow()
    epochs, batch = int(settings["epochs"]), int(settings["batch"])
    steps = max(1, len(x) // batch)
    rate = tf.keras.optimizers.schedules.CosineDecay(float(settings["learning_rate"]), epochs * steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    random = np.random.default_rng(seed)

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(originals: Any, views: Any, labels: Any) -> None:
        images = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(originals, tf.float32), transforms=views, output_shape=list(x.shape[1:3]),
            interpolation="BILINEAR", fill_mode="CONSTANT", fill_value=0.0,
        )  # fmt: skip
        with tf.GradientTape() as tape:
            value = loss(images, labels, net(images, training=True))
        gradients = tape.gradient(value, net.trainable_variables)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))

    for epoch in range(epochs):
        order = random.permutation(len(x))[: steps * batch]
        for chosen in order.reshape(steps, -1):
            views = random_views(batch, x.shape[1:], settings, random)
            step(tf.constant(x[chosen]), tf.constant(views), tf.constant(y[chosen]))
        publish("train", stage, epoch + 1, epochs, "epochs")
