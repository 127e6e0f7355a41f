"""Makes the dictionary of the shelf form: skeletons of small nets in every form that the converter gives.

    python -m benchmarks.shelf_dictionary

Weights do not matter, so nothing is trained. The nets are those of `infra/recipes` for the datasets of the catalog, and
the two LeNets, under the names that Keras gives to layers of a first model. A new version of the converter may give other
skeletons: that makes the dictionary worse, never wrong. The file is named by its digest; an object can only be opened
with the dictionary that it was made with, so a new one is a new form in `infra/shelf/__init__.py`, and the old one stays.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from infra import shelf
from infra.recipes import import_tensorflow
from infra.recipes._training import network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = Path(shelf.__file__).parent
DIGITS = (28, 28, 1)
KINDS = ("int16x8", "int8", "dynamic", "float16", "float32")


def lenet_5() -> Any:
    """LeCun's net, as in Caffe: 431,080 parameters."""
    keras = import_tensorflow().keras
    layers = keras.layers
    image = x = keras.Input(DIGITS, name="x")
    x = layers.Rescaling(1 / 255)(x)
    for filters in (20, 50):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 5)(x))
    x = layers.Dense(500, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def lenet_300_100() -> Any:
    """Two hidden layers: 266,610 parameters."""
    keras = import_tensorflow().keras
    layers = keras.layers
    image = x = keras.Input(DIGITS, name="x")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(x))
    for units in (300, 100):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def small_convolutions() -> Any:
    """Two convolutions with their activations, without batch normalisation."""
    keras = import_tensorflow().keras
    layers = keras.layers
    image = x = keras.Input(DIGITS, name="x")
    x = layers.Rescaling(1 / 255)(x)
    for filters in (16, 32):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return keras.Model(image, layers.Dense(10, name="logits")(layers.Flatten()(x)))


NETS: tuple[Callable[[], Any], ...] = (
    lambda: network((64,), (32, 16), 1, 0, 4),
    lambda: network((1024, 1), (8, 16, 32), 1, 0, 4),
    lambda: network(DIGITS, (16, 32), 1, 0, 10),
    small_convolutions,
    lenet_300_100,
    lenet_5,
)


def conversions(net: Any, kinds: Sequence[str] = KINDS) -> Iterator[bytes]:
    """The net as a `.tflite` of each kind."""
    tf = import_tensorflow()
    samples = [
        [np.random.default_rng(i).integers(0, 256, (1, *net.input_shape[1:])).astype(np.float32)] for i in range(4)
    ]
    ops = tf.lite.OpsSet
    for kind in kinds:
        converter = tf.lite.TFLiteConverter.from_keras_model(net)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if kind != "float32" else []
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind.startswith("int"):
            converter.representative_dataset = lambda: iter(samples)
            eight, sixteen = ops.TFLITE_BUILTINS_INT8, ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [sixteen if kind == "int16x8" else eight]
        if kind == "int8":
            converter.inference_input_type = tf.uint8
        with warnings.catch_warnings(action="ignore"):  # of inputs whose statistics it does not need
            yield converter.convert()


def make() -> bytes:
    """The dictionary, compressed; what is most like other models comes last, where zstd's offsets are shortest."""
    tf = import_tensorflow()
    skeletons = []
    for build in NETS:
        tf.keras.backend.clear_session()  # layers are numbered from the start again
        tf.keras.utils.set_random_seed(0)
        skeletons += [shelf.skeleton(model) for model in conversions(build())]
    return zstandard.ZstdCompressor(level=19).compress(b"".join(skeletons))


def main() -> None:
    """Write the file."""
    packed = make()
    path = FOLDER / f"skeletons-{hashlib.sha256(packed).hexdigest()[:8]}.zst"
    path.write_bytes(packed)
    sys.stdout.write(
        f"{path.name}: {len(packed)} bytes, {len(zstandard.ZstdDecompressor().decompress(packed))} unpacked\n"
    )


if __name__ == "__main__":
    main()
