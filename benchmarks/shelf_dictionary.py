"""Makes the dictionary of the shelf form: skeletons of small nets in every form that the converter gives.

    python -m benchmarks.shelf_dictionary

Weights do not matter, so nothing is trained. The nets are those of `infra/recipes` for the datasets of the catalog, and
the two LeNets, under the names that Keras gives to layers of a first model. A new version of the converter may give other
skeletons: that makes the dictionary worse, never wrong. The file is named by its digest; an object can only be opened
with the dictionary that it was made with, so a new one is a new form in `infra/shelf/__init__.py`, and the old one stays.
"""

from __future__ import annotations

import functools
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


def _chain(*inner: Callable[[Any], Any]) -> Any:
    """A net of digits, its layers named as in the benchmark of models."""
    keras = import_tensorflow().keras
    record = x = keras.Input(DIGITS)
    x = keras.layers.Rescaling(1 / 255)(x)
    for layer in inner:
        x = layer(keras.layers)(x)
    return keras.Model(record, keras.layers.Dense(10, name="d0")(x))


def lenet_5() -> Any:
    """LeCun's net, as in Caffe: 431,080 parameters."""
    return _chain(
        lambda k: k.Conv2D(20, 5, name="c1"), lambda k: k.MaxPooling2D(),
        lambda k: k.Conv2D(50, 5, name="c2"), lambda k: k.MaxPooling2D(),
        lambda k: k.Flatten(), lambda k: k.Dense(500, "relu", name="d1"),
    )  # fmt: skip


def lenet_300_100() -> Any:
    """Two hidden layers: 266,610 parameters."""
    return _chain(
        lambda k: k.Flatten(), lambda k: k.Dense(300, "relu", name="d1"), lambda k: k.Dense(100, "relu", name="d2")
    )


def small_convolutions() -> Any:
    """Two convolutions with their activations, without batch normalisation."""
    return _chain(
        lambda k: k.Conv2D(16, 5, activation="relu", name="c1"), lambda k: k.MaxPooling2D(),
        lambda k: k.Conv2D(32, 5, activation="relu", name="c2"), lambda k: k.MaxPooling2D(), lambda k: k.Flatten(),
    )  # fmt: skip


NETS: tuple[tuple[Callable[[], Any], Sequence[str]], ...] = (
    (lambda: network((64,), (32, 16), 1, 0, 4), KINDS),
    (lambda: network((1024, 1), (8, 16, 32), 1, 0, 4), KINDS),
    (lambda: network(DIGITS, (16, 32), 1, 0, 10), KINDS),
    (lenet_300_100, KINDS[1:]),
    (lenet_5, KINDS[1:]),
    (small_convolutions, KINDS[1:]),
)


def conversions(net: Any, kinds: Sequence[str] = KINDS) -> Iterator[bytes]:
    """The net as a `.tflite` of each kind; those that are not all integers begin with a cast from uint8."""
    tf = import_tensorflow()
    random = np.random.default_rng(0)
    samples = [[random.integers(0, 256, (1, *net.input_shape[1:])).astype(np.float32)] for _ in range(4)]
    ops = tf.lite.OpsSet
    for kind in kinds:
        entry = tf.keras.Input(net.input_shape[1:], dtype="uint8", name="x")
        cast = tf.keras.Model(entry, net(tf.cast(entry, tf.float32), training=False))
        converter = tf.lite.TFLiteConverter.from_keras_model(net if kind.startswith("int") else cast)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if kind != "float32" else []
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind.startswith("int"):
            converter.representative_dataset = functools.partial(iter, samples)
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
    for build, kinds in NETS:
        tf.keras.backend.clear_session()  # layers are numbered from the start again
        tf.keras.utils.set_random_seed(0)
        skeletons += [shelf.skeleton(model) for model in conversions(build(), kinds)]
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
