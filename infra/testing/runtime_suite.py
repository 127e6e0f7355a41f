"""What every runtime must do; see `infra.runtimes` for the contract.

A runtime needs a model of its own kind. For ours `example_of` makes one; a plug-in from elsewhere offers a
function `example()` that returns an `Example`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from infra.runtimes import Runtime

CLASSES = 3
TOLERANCE = 1e-5  # of float32 logits near one: other batches may add in another order


@dataclass(frozen=True, slots=True)
class Example:
    """A small model's bytes, records for it, and the logits (n, classes) that its maker's own code gives."""

    model: bytes
    x: NDArray[np.generic]
    logits: NDArray[np.float32]


def example_of(name: str, runtime: Runtime) -> Example:
    """The runtime's own example, or the one that is known for its name.

    Raises:
        LookupError: there is neither; says what to add.
    """
    if hasattr(runtime, "example"):
        return cast("Example", runtime.example())
    if name not in KNOWN:
        raise LookupError(f"runtime {name!r} has no model to be tested with; give its module a function `example()`")
    return KNOWN[name]()


@lru_cache(maxsize=1)
def _net() -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """A net of one convolution and one dense layer, made once, with records and its answers to them."""
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(11)
    layers = tf.keras.layers
    image = tf.keras.Input((6, 6, 1))
    hidden = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
    net = tf.keras.Model(image, layers.Dense(CLASSES)(hidden))
    x = np.random.default_rng(12).normal(size=(23, 6, 6, 1)).astype(np.float32)
    return net, x, net(x).numpy()


@lru_cache(maxsize=1)
def _litert_example() -> Example:
    net, x, logits = _net()
    return Example(import_tensorflow().lite.TFLiteConverter.from_keras_model(net).convert(), x, logits)


@lru_cache(maxsize=1)
def _tensorflow_example() -> Example:
    from infra.recipes.train_teacher import saved_model

    net, x, logits = _net()
    return Example(saved_model(net, "float32"), x, logits)


KNOWN: dict[str, Callable[[], Example]] = {
    "litert": _litert_example,
    "tensorflow": _tensorflow_example,
    "tflite_runtime": _litert_example,
}


def check_it_computes_the_model(runtime: Runtime, example: Example) -> None:
    """The logits are those of whoever made the model, as float32."""
    logits = runtime.load(example.model, 8)(example.x)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, example.logits, atol=1e-4)


def check_the_batch_size_changes_nothing(runtime: Runtime, example: Example) -> None:
    """Batches that divide the rows, that do not, of one, and larger than all."""
    for batch in (1, 4, len(example.x), 64):
        logits = runtime.load(example.model, batch)(example.x)
        np.testing.assert_allclose(logits, example.logits, atol=1e-4, err_msg=f"batch {batch}")


def check_any_number_of_rows(runtime: Runtime, example: Example) -> None:
    """None, fewer than a batch, a batch, and a remainder, one after the other through one predictor."""
    predict = runtime.load(example.model, 5)
    for rows in (0, 1, 5, 7, 0, 10, 2, len(example.x)):
        logits = predict(example.x[:rows])
        assert logits.shape == (rows, example.logits.shape[1])
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, example.logits[:rows], atol=1e-4)


def check_rows_do_not_see_their_neighbours(runtime: Runtime, example: Example) -> None:
    """A row's answer is the same alone, in another order, and beside records of another size."""
    predict = runtime.load(example.model, 4)
    whole = predict(example.x)
    np.testing.assert_allclose(predict(example.x[::-1]), whole[::-1], atol=TOLERANCE)
    crowd = example.x.copy()
    crowd[1::2] = 0
    np.testing.assert_allclose(predict(crowd)[::2], whole[::2], atol=TOLERANCE)
    alone = np.concatenate([predict(example.x[row : row + 1]) for row in range(5)])
    np.testing.assert_allclose(alone, whole[:5], atol=TOLERANCE)


def check_answers_are_kept(runtime: Runtime, example: Example) -> None:
    """An answer is not overwritten by the next, and the records are left as they were."""
    predict = runtime.load(example.model, 4)
    before = example.x.copy()
    first = predict(example.x)
    kept = first.copy()
    predict(np.zeros_like(example.x))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(example.x, before)


def check_one_predictor_a_thread(runtime: Runtime, example: Example) -> None:
    """Threads that load one each do not disturb one another."""

    def answer(batch: int) -> NDArray[np.float32]:
        predict = runtime.load(example.model, batch)
        return np.concatenate([predict(example.x) for _ in range(5)])

    with ThreadPoolExecutor(4) as threads:
        for logits in threads.map(answer, (1, 3, 4, 8)):
            np.testing.assert_allclose(logits, np.tile(example.logits, (5, 1)), atol=1e-4)


def check_bytes_that_are_no_model_are_refused(runtime: Runtime, example: Example) -> None:
    """Nothing, noise, zeros, another file's beginning, and the model cut short: ModelRefused."""
    noise = np.random.default_rng(13)
    model = example.model
    others = (
        b"",
        noise.bytes(5000),
        bytes(20_000),
        b"<html>no such key</html>",
        model[:16] + noise.bytes(5000),
    )
    for bad in (*others, model[: len(model) // 2], model[:100]):
        with pytest.raises(ModelRefused, match=r"\S"):
            runtime.load(bad, 4)


def check_it_has_a_version(runtime: Runtime, example: Example) -> None:
    """`version()` is text with a number in it, for the variant's card."""
    assert any(letter.isdigit() for letter in runtime.version())


CHECKS = (
    check_it_computes_the_model,
    check_the_batch_size_changes_nothing,
    check_any_number_of_rows,
    check_rows_do_not_see_their_neighbours,
    check_answers_are_kept,
    check_one_predictor_a_thread,
    check_bytes_that_are_no_model_are_refused,
    check_it_has_a_version,
)
