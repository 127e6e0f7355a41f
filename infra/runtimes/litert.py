"""LiteRT, the edge runtime (successor of tflite-runtime), through XNNPACK; never imports TensorFlow.

One interpreter of one thread for each Python thread: `invoke` releases the GIL, and separate interpreters
beat one with `num_threads=2` when the machine is shared. Batches are cut so that activations stay in the
second-level cache.
"""

from __future__ import annotations

import os
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING

from data_catalog.errors import ModelRefused
from infra.runtimes._tflite import REFUSALS, predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from infra.runtimes import Predictor

FORMAT = "tflite"


def version() -> str:
    """Version of ai-edge-litert."""
    return package_version("ai-edge-litert")


def load(model: bytes, batch: int) -> Predictor:
    """A predictor over one interpreter: see `_tflite.predictor`.

    Args:
        model: a `.tflite` flatbuffer with one input (n, ...) and one output (n, classes), of floats or quantised.
        batch: rows in one `invoke`; the model's own number where its reshape constants refuse another.

    Raises:
        ModelRefused: not a flatbuffer that this runtime can run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from ai_edge_litert.interpreter import Interpreter

    try:
        answer = predictor(Interpreter, model, batch)
    except REFUSALS as error:
        raise _refused(error) from error

    def predict(x: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            logits: NDArray[np.float32] = answer(x)
        except REFUSALS as error:
            raise _refused(error) from error
        return logits

    return predict


def _refused(error: Exception) -> ModelRefused:
    return ModelRefused(f"LiteRT {version()} cannot run this model ({' '.join(str(error).split())[:160]})")
