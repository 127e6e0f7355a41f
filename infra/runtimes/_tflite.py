"""A `.tflite` model through an interpreter, whichever package it is from; also the child of `tflite_runtime`.

Run as a script, this file is a process of its own that answers batches over its standard input and output: see
`serve`. It must run where nothing but NumPy and the runtime is installed, on Python 3.9 too, so it imports neither
this project nor anything newer.

How quantised values are read: B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018: real = scale * (quantised - zero point).
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

import numpy as np

LENGTH = struct.Struct("<I")
REFUSALS = (ValueError, RuntimeError, IndexError, TypeError)  # what the interpreters raise


def predictor(interpreter_class: Any, model: bytes, batch: int) -> Any:
    """A function from (n, ...) records to (n, classes) float32 logits, over one interpreter of one thread.

    Records of the input's own dtype go in as they are. Others are cast, or quantised by the input's scale and zero
    point if it has such; quantised logits are read back likewise.

    Args:
        interpreter_class: LiteRT's or tflite-runtime's. XNNPACK is on in both, unless it is told otherwise.
        model: the bytes of a `.tflite` with one input and one output of (n, classes).
        batch: rows in one `invoke`. A model whose constants fix the number of rows (a reshape to `[1, 784]`, say)
            works with that number, the last rows filled up with zeros.

    Raises:
        ValueError, RuntimeError, IndexError, TypeError: the interpreter cannot run the model, now or with those records.
    """
    interpreter = interpreter_class(model_content=model, num_threads=1)
    source = _only(interpreter.get_input_details(), "inputs")
    target = _only(interpreter.get_output_details(), "outputs")
    shape = tuple(int(side) for side in source["shape"][1:])
    if not len(source["shape"]) or not len(target["shape"]):
        raise ValueError("its input or its output is a single number, where records and logits have rows")
    own = max(1, int(source["shape"][0]))

    def resize(rows: int) -> None:
        interpreter.resize_tensor_input(source["index"], [rows, *shape])
        interpreter.allocate_tensors()

    def check(rows: int) -> int:
        interpreter.invoke()
        found = interpreter.get_tensor(target["index"]).shape
        if len(found) != 2 or found[0] != rows:
            raise ValueError(f"its output is {tuple(found)} for {rows} records, where ({rows}, classes) is needed")
        return int(found[1])

    fixed = False
    try:
        resize(batch)
        classes = check(batch)
    except REFUSALS:
        interpreter = interpreter_class(model_content=model, num_threads=1)  # a failed resize leaves it unusable
        interpreter.allocate_tensors()
        classes, batch, fixed = check(own), own, True
    rows_now = batch

    def predict(x: Any) -> Any:
        nonlocal rows_now
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"its records have shape {shape}, not {tuple(x.shape[1:])}")
        logits = np.empty((len(x), classes), np.float32)
        for start in range(0, len(x), batch):
            part = _encoded(x[start : start + batch], source)
            rows = len(part)
            if rows != rows_now and fixed:
                part = np.concatenate([part, np.zeros((batch - rows, *shape), part.dtype)])
            elif rows != rows_now:
                resize(rows)
                rows_now = rows
            interpreter.set_tensor(source["index"], part)
            interpreter.invoke()
            logits[start : start + rows] = _decoded(interpreter.get_tensor(target["index"])[:rows], target)
        return logits

    return predict


def _only(details: Any, what: str) -> Any:
    if len(details) != 1:
        raise ValueError(f"it has {len(details)} {what}, where a classifier has one")
    return details[0]


def _encoded(x: Any, source: Any) -> Any:
    """Records as the model's input takes them."""
    wanted = np.dtype(source["dtype"])
    scale, zero = source["quantization"]
    if x.dtype == wanted:
        return x
    if scale and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        return np.clip(np.rint(x.astype(np.float32) / scale) + zero, limits.min, limits.max).astype(wanted)
    return x.astype(wanted)


def _decoded(logits: Any, target: Any) -> Any:
    """Logits as real numbers."""
    scale, zero = target["quantization"]
    return (logits.astype(np.float32) - zero) * np.float32(scale) if scale and logits.dtype.kind in "iu" else logits


def write_message(stream: Any, header: dict[str, Any], payload: bytes = b"") -> None:
    """Four bytes of length, a header of that length in JSON, and raw bytes whose number the header says."""
    head = json.dumps(header).encode()
    stream.write(LENGTH.pack(len(head)))
    stream.write(head)
    stream.write(payload)
    stream.flush()


def read_message(stream: Any) -> tuple[dict[str, Any], bytes]:
    """The next header and its payload; EOFError where the other end is gone."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    header = json.loads(_exactly(stream, length))
    return header, _exactly(stream, header["bytes"])


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError("the other end is gone")
    return data


def serve(interpreter_class: Any, source: Any, sink: Any) -> None:
    """Load the model of the first message, then answer batches until there are no more.

    The first header is `{"bytes", "batch"}` with the model; each other `{"bytes", "dtype", "shape"}` with records. An
    answer is `{"bytes", "shape"}` with float32 logits (none for the model), or `{"bytes": 0, "refused"}`.
    """
    predict = None
    while True:
        try:
            header, payload = read_message(source)
        except EOFError:
            return
        try:
            if predict is None:
                predict = predictor(interpreter_class, payload, header["batch"])
                write_message(sink, {"bytes": 0, "shape": []})
            else:
                records = np.frombuffer(payload, header["dtype"]).reshape(header["shape"])
                logits = predict(records)
                write_message(sink, {"bytes": logits.nbytes, "shape": logits.shape}, logits.tobytes())
        except REFUSALS as error:
            write_message(sink, {"bytes": 0, "refused": " ".join(str(error).split())[:160]})


def limit_memory() -> None:
    """This process may have half of the machine: what a damaged model asks for is an error here, not the end of others."""
    import resource  # Unix alone has it

    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (physical // 2, resource.RLIM_INFINITY))


if __name__ == "__main__":
    limit_memory()
    from tflite_runtime.interpreter import Interpreter

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the runtime prints must not come between
    serve(Interpreter, sys.stdin.buffer, answers)
