"""What the converting steps share: a net to a `.tflite` that takes the records as they lie in the shards."""

from __future__ import annotations

import struct
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.recipes import TrainingData
    from infra.steps import Candidate

CALIBRATION_ROWS = 500
_converting = threading.Lock()  # trials run in threads, and the converter keeps some of its state a process


def converted(
    candidate: Candidate, data: TrainingData, kind: str, configure: Callable[[Any, Any], None],
    *, calibrated: bool = False, takes_uint8: bool = False,
) -> Candidate:  # fmt: skip
    """The candidate with its `.tflite`.

    The input has the records' dtype. Integer models take uint8 records as they are, if their range came out as 0 to
    255; else the model begins with a cast.

    Args:
        candidate: its `keras` is converted and kept.
        data: `calibration` gives dtype, shape and the ranges of activations.
        kind: the step, for the error.
        configure: sets the converter's options, given TensorFlow and the converter.
        calibrated: the activations become integers, so the converter is shown calibration rows.
        takes_uint8: the converter can make a model that takes uint8.

    Raises:
        ModelRefused: the converter cannot express the model.
    """
    tf = import_tensorflow()
    records = data.calibration.x[:CALIBRATION_ROWS]

    def convert(raw: bool) -> bytes:
        net = candidate.keras if raw or records.dtype == np.float32 else _casting(candidate.keras, records)
        converter = tf.lite.TFLiteConverter.from_keras_model(net)
        if calibrated:
            converter.representative_dataset = lambda: _rows(records, raw)
        configure(tf, converter)
        if raw:
            converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.float32
        with _converting, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter's own, for every integer model
            model: bytes = converter.convert()
        return model

    try:
        raw = takes_uint8 and records.dtype == np.uint8
        model = convert(raw)
        if raw and not _takes_values_as_they_are(model):
            model = convert(raw=False)
    except (ValueError, RuntimeError, TypeError, struct.error, tf.errors.OpError) as error:
        raise ModelRefused(
            f"step {kind}: TensorFlow's converter refuses this model ({' '.join(str(error).split())[:160]})"
        ) from error
    return replace(candidate, model=model)


def _casting(net: Any, records: np.ndarray[Any, Any]) -> Any:
    """The net behind a cast of the records' dtype."""
    tf = import_tensorflow()
    entry = tf.keras.Input(records.shape[1:], dtype=records.dtype.name, name="x")
    return tf.keras.Model(entry, net(tf.cast(entry, tf.float32), training=False))


def _rows(records: np.ndarray[Any, Any], raw: bool) -> Iterator[list[np.ndarray[Any, Any]]]:
    for record in records:
        yield [record[None].astype(np.float32) if raw else record[None]]


def _takes_values_as_they_are(model: bytes) -> bool:
    """Whether a quantised input means the value itself: scale 1, zero point 0."""
    from ai_edge_litert.interpreter import Interpreter

    scale, zero = Interpreter(model_content=model).get_input_details()[0]["quantization"]
    return bool(abs(scale - 1) < 1e-6 and zero == 0)
