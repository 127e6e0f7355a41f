"""Let the weights of a tensor share few values, and train those values: a codebook for each kernel and bias.

The values are found by k-means over the weights that are not zero, begun evenly between the smallest and the largest;
then the gradients of the weights that share a value are summed and move it: S. Han, H. Mao, W. Dally, Deep
Compression, ICLR 2016. Zeros stay zeros. In the end values are rounded to the upper half of a float32, so that a
codebook costs half its bytes in the stored file.
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
STAGE = "share"
SETTINGS: Mapping[str, float | int | str] = {
    **_pool.SETTINGS,
    "learning_rate": 0.0005,
    "steps": 500,
    "values": 12,  # of each kernel, zero not counted
    "bias_values": 8,  # of each bias
}
ROUNDS = 100  # of k-means, at most


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with at most `values` values that are not zero in each kernel, `bias_values` in each bias.

    Raises:
        ModelRefused: a codebook would be empty.
    """
    settings = {**SETTINGS, **settings}
    for key in ("values", "bias_values"):
        if int(settings[key]) < 1:
            raise ModelRefused(f"step codebook: `{key}` is {settings[key]}; give at least 1")
    tf = import_tensorflow()
    net = _pool.copy(candidate.keras)
    variables = net.trainable_variables
    books, codes = [], []
    for variable in variables:
        count = int(settings["values" if len(variable.shape) > 1 else "bias_values"])
        values, symbols = codebook(variable.numpy(), count)
        books.append(tf.Variable(values))
        codes.append(tf.constant(symbols))

    def write_weights() -> None:
        for variable, values, symbols in zip(variables, books, codes, strict=True):
            variable.assign(tf.gather(tf.concat([[0.0], values], 0), symbols))

    def summed(gradients: Sequence[Any]) -> list[Any]:
        return [
            tf.math.unsorted_segment_sum(gradient, symbols, values.shape[0] + 1)[1:]
            for gradient, values, symbols in zip(gradients, books, codes, strict=True)
        ]

    write_weights()
    lessons = _pool.pool(data, settings, seed, teacher)
    _pool.retrain(
        net, lessons, settings, seed, "codebook", trained=books, gradients_of=summed, after_batch=write_weights
    )
    for values in books:
        values.assign(rounded(values.numpy()))
    write_weights()
    largest = max(len(np.setdiff1d(variable.numpy(), 0)) for variable in variables)
    return Candidate(net, masks=candidate.masks, notes={**candidate.notes, "values": float(largest)})


def codebook(weights: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """At most `count` values that stand for the weights that are not zero, and the symbol of every weight.

    Returns:
        (k,) ascending values by Lloyd's k-means, and symbols of the weights' shape: 0 for zero, i for value i - 1.
    """
    taken = weights[weights != 0].astype(np.float64)
    if not taken.size:
        return np.zeros(0, np.float32), np.zeros(weights.shape, np.int32)
    distinct = np.unique(taken)
    values = distinct if len(distinct) <= count else np.linspace(distinct[0], distinct[-1], count)
    for _ in range(ROUNDS):
        nearest = np.searchsorted((values[1:] + values[:-1]) / 2, taken)
        sizes = np.bincount(nearest, minlength=len(values))
        moved = (np.bincount(nearest, taken, len(values)) / np.maximum(sizes, 1))[sizes > 0]
        if np.array_equal(moved, values):
            break
        values = moved
    symbols = np.searchsorted((values[1:] + values[:-1]) / 2, weights) + 1
    return values.astype(np.float32), np.where(weights == 0, 0, symbols).astype(np.int32)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest values whose lower 16 bits are zero (bfloat16); none becomes zero that was not."""
    bits = values.astype(np.float32).view(np.uint32)
    nearest: NDArray[np.float32] = ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
    return nearest
