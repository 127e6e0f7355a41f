"""TensorFlow, the cloud runtime: the serving function of a SavedModel, carried as an uncompressed tar.

A SavedModel is loaded once a process and shared: its function is safe to call from several threads.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import threading
from functools import lru_cache
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.runtimes import Predictor

FORMAT = "saved_model"
STEP = 8  # rows: the few that an edge escalates of a shard are not filled up to a whole batch
_loading = threading.Lock()


def version() -> str:
    """Version of TensorFlow, read without importing it."""
    return package_version("tensorflow")


def load(model: bytes, batch: int) -> Predictor:
    """A predictor over the SavedModel's `serve` function.

    Args:
        model: tar of a SavedModel folder whose `serve` maps (n, ...) records to (n, classes) logits.
        batch: rows in one call; the last is filled up to a multiple of `STEP`, so that TensorFlow meets few shapes.

    Raises:
        ModelRefused: not such a tar.
    """
    with _loading:
        serve = _load_saved_model(model)
    tf = import_tensorflow()
    step = min(STEP, batch) if serve.inputs[0].shape[0] is None else batch  # or the model knows one batch alone

    def predict(x: NDArray[np.generic]) -> NDArray[np.float32]:
        if not len(x):
            return np.empty((0, int(serve.structured_outputs.shape[-1])), np.float32)
        answers = []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            filled = np.zeros((min(batch, -(-len(part) // step) * step), *x.shape[1:]), x.dtype)
            filled[: len(part)] = part
            answers.append(serve(tf.constant(filled)).numpy()[: len(part)])
        return np.concatenate(answers).astype(np.float32, copy=False)

    return predict


@lru_cache(maxsize=4)
def _load_saved_model(model: bytes) -> Any:
    tf = import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(fileobj=io.BytesIO(model), mode="r:") as archive:
                archive.extractall(folder, filter="data")
            loaded = tf.saved_model.load(str(Path(folder) / "saved_model"))
            serve = loaded.serve.get_concrete_function()
        except (tarfile.TarError, tf.errors.OpError, OSError, AttributeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelRefused(f"TensorFlow {version()} cannot load this model ({reason})") from error
    serve.keep = loaded  # the function does not keep its variables alive
    return serve
