"""LiteRT, the edge runtime (successor of tflite-runtime), through XNNPACK; never imports TensorFlow.

One interpreter of one thread for each Python thread: `invoke` releases the GIL, and separate interpreters
beat one with `num_threads=2` when the machine is shared. Batches are cut so that activations stay in the
second-level cache.
"""

from __future__ import annotations

import os
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import ModelRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.runtimes import Predictor


def version() -> str:
    """Version of ai-edge-litert."""
    return package_version("ai-edge-litert")


def load(model: bytes, batch: int) -> Predictor:
    """A predictor over one interpreter.

    Args:
        model: a `.tflite` flatbuffer with one input (n, ...) and one output (n, classes) of float32.
        batch: rows in one `invoke`; falls back to 1 where the model's reshape constants refuse another.

    Raises:
        ModelRefused: not a flatbuffer that this runtime can run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        shape = tuple(interpreter.get_input_details()[0]["shape"][1:])
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, IndexError) as error:
        raise ModelRefused(
            f"LiteRT {version()} cannot load this model ({' '.join(str(error).split())[:160]})"
        ) from error

    def resize(rows: int) -> None:
        interpreter.resize_tensor_input(source, [rows, *shape])
        interpreter.allocate_tensors()

    try:
        resize(batch)
        interpreter.invoke()
    except (ValueError, RuntimeError):
        batch = 1
        resize(batch)
    classes = int(interpreter.get_output_details()[0]["shape"][-1])
    rows_now = batch

    def predict(x: NDArray[np.generic]) -> NDArray[np.float32]:
        nonlocal rows_now
        logits = np.empty((len(x), classes), np.float32)
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            if len(part) != rows_now:
                resize(len(part))
                rows_now = len(part)
            interpreter.set_tensor(source, part)
            interpreter.invoke()
            logits[start : start + len(part)] = interpreter.get_tensor(target)
        return logits

    return predict
