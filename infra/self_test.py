"""Golden rows: what a variant answered where it was published, for a site to compare with before it relies on it.

A runtime of another version, or kernels for another processor, may load a model and compute something else. So a
few rows and their logits travel with each variant. A test passes if the classes agree and the logits differ by no more
than the runtime's own rounding.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import CorruptObject, ModelRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from data_catalog.nouns import VariantCard

ROWS = 16
LOOKED_AT = 256  # rows, of which the clearest are kept
# Share of the range of the golden logits by which one may differ. Kernels of quantised models round each layer in
# their own way; TensorFlow's do so only in the last bits.
TOLERANCE = {"tensorflow": 0.001}
TOLERANCE_ELSE = 0.05


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows as they lie in the shards, (n, *shape), and their float32 logits, (n, classes)."""

    x: NDArray[np.generic]
    logits: NDArray[np.float32]


def choose(
    x: NDArray[np.generic],
    predict: Callable[[NDArray[np.generic]], NDArray[np.float32]],
    *,
    restricted: bool = False,
) -> Golden:
    """The rows whose class is the clearest, in turn from each class, so that rounding does not decide the test.

    Args:
        x: (n, *shape) rows that trained nothing.
        predict: gives the logits on the machine that publishes.
        restricted: whether nobody may see the rows: made-up ones are taken in their place.
    """
    if restricted:
        top = int(np.iinfo(x.dtype.str).max) if x.dtype.kind in "iu" else 1
        x = (np.random.default_rng(0).random((LOOKED_AT, *x.shape[1:])) * top).astype(x.dtype)
    x = x[:LOOKED_AT]
    logits = predict(x)
    ordered = np.sort(logits, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    classes = logits.argmax(axis=1)
    order = np.argsort(-margin, kind="stable")
    turn = np.empty(len(x), int)
    for c in np.unique(classes):
        mine = order[classes[order] == c]
        turn[mine] = np.arange(len(mine))
    turn[margin < 2 * TOLERANCE_ELSE * np.ptp(logits)] += len(x)  # only where there are no clearer ones
    chosen = np.lexsort((-margin, turn))[:ROWS]
    return Golden(x[chosen], logits[chosen].astype(np.float32))


def write(golden: Golden) -> bytes:
    """The rows and logits as NPZ."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=golden.x, logits=golden.logits)
    return buffer.getvalue()


def read(data: bytes, key: str) -> Golden:
    """What `write` wrote.

    Raises:
        CorruptObject: it is something else; names the object.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            golden = Golden(arrays["x"], arrays["logits"])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptObject(f"{key} holds no golden rows; publish the variant again") from error
    if golden.logits.ndim != 2 or len(golden.x) != len(golden.logits) or not len(golden.x):
        raise CorruptObject(f"{key} has {golden.logits.shape} logits for {golden.x.shape} rows; publish it again")
    return golden


def require(card: VariantCard, predict: Callable[[NDArray[np.generic]], NDArray[np.float32]], golden: Golden) -> None:
    """Compare what the runtime here answers to the golden rows.

    Raises:
        ModelRefused: it answers otherwise, or cannot answer; says by how much.
    """
    name = f"variant {card.name} of {card.model} {card.version} failed its self-test here on {card.runtime}"
    remedy = "push another variant, or mend the runtime"
    logits = predict(golden.x)
    if logits.shape != golden.logits.shape:
        raise ModelRefused(f"{name}: it gives {logits.shape} logits for {golden.logits.shape}; {remedy}")
    if wrong := int((logits.argmax(axis=1) != golden.logits.argmax(axis=1)).sum()):
        raise ModelRefused(f"{name}: another class for {wrong} of {len(golden.x)} golden rows; {remedy}")
    allowed = TOLERANCE.get(card.runtime, TOLERANCE_ELSE) * float(np.ptp(golden.logits))
    off = float(np.abs(logits - golden.logits).max())
    if not off <= allowed:  # so that NaN does not pass
        raise ModelRefused(f"{name}: a logit is {off:.3g} off, where {allowed:.3g} is rounding; {remedy}")
