"""The same job by Ray Data, in an environment of its own: shards from the store, int8 student, Parquet to the store.

`benchmarks.throughput` runs this file by the interpreter of that environment; it imports nothing of ours. The job
comes as JSON on standard input, and one line of JSON a run goes to standard output.

Ray is given what helps it: more logical CPUs than cores, so that reads and actors do not wait for one another's
slots; no check of digests; a run over a few shards before each that counts, so that its processes are up and have
imported what they need; and its clock starts when its first actor is ready, though it may have read before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # else Arrow's uploads come without a length
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import ray
import s3fs
import zstandard

WARM_UP_SHARDS = 8
JOB = json.loads(sys.stdin.read()) if __name__ == "__main__" else {}


def files() -> pyarrow.fs.S3FileSystem:
    """The store, as Arrow's own client sees it."""
    address = os.environ["AWS_ENDPOINT_URL"]
    return pyarrow.fs.S3FileSystem(
        endpoint_override=address.partition("://")[2],
        scheme="http",
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_DEFAULT_REGION"],
    )


def decode(packed: bytes) -> pa.Table:
    """The records of a compressed shard."""
    with pa.ipc.open_stream(zstandard.ZstdDecompressor().decompress(packed)) as reader:
        return reader.read_all()


def decode_batch(batch: pa.Table) -> pa.Table:
    """Of a table of read files: their records."""
    return pa.concat_tables([decode(packed.as_py()) for packed in batch["bytes"]])


def fetch_batch(batch: dict[str, np.ndarray]) -> pa.Table:
    """Of a batch of keys: the records of those shards, by s3fs."""
    store = s3fs.S3FileSystem()
    return pa.concat_tables([decode(store.cat_file(str(key), max_concurrency=1)) for key in batch["key"]])


class Student:
    """An actor of the pool: one interpreter of one thread."""

    def __init__(self, model: bytes, batch: int, temperature: float, ready: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.batch, self.temperature = batch, temperature
        self.interpreter = Interpreter(model_content=model, num_threads=1)
        self.source = self.interpreter.get_input_details()[0]["index"]
        self.target = self.interpreter.get_output_details()[0]["index"]
        self.shape = list(self.interpreter.get_input_details()[0]["shape"][1:])
        self.rows = 0
        self._resize(batch)
        Path(ready, str(os.getpid())).write_text(str(time.time()))

    def _resize(self, rows: int) -> None:
        if rows != self.rows:
            self.interpreter.resize_tensor_input(self.source, [rows, *self.shape])
            self.interpreter.allocate_tensors()
            self.rows = rows

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Class and confidence of each row."""
        x = batch["x"]
        logits = np.empty((len(x), 10), np.float32)
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            self._resize(len(part))
            self.interpreter.set_tensor(self.source, part)
            self.interpreter.invoke()
            logits[start : start + len(part)] = self.interpreter.get_tensor(self.target)
        scaled = np.exp((logits - logits.max(axis=1, keepdims=True)) / np.float32(self.temperature))
        return {
            "record_id": batch["record_id"],
            "prediction": logits.argmax(axis=1).astype(np.int32),
            "confidence": (1 / scaled.sum(axis=1)).astype(np.float32),
        }


def run(shards: list[list], way: str, rows: int | None) -> float:
    """Images a second from the first actor's readiness to the last written file.

    Args:
        shards: key and rows of each.
        way: `read` lets Ray read the files, `keys` maps the keys to records by s3fs.
        rows: in a batch for the actors; None: as the blocks come.
    """
    ready = tempfile.mkdtemp(prefix="ray-ready-")
    pool = {
        "fn_constructor_args": (bytes.fromhex(JOB["model"]), JOB["batch"], JOB["temperature"], ready),
        "compute": ray.data.ActorPoolStrategy(size=JOB["threads"]),
        "num_cpus": 1,
    }
    begun = time.time()
    paths = [f"{JOB['bucket']}/{key}" for key, _ in shards]
    if way == "read":
        records = ray.data.read_binary_files(paths, filesystem=files(), override_num_blocks=len(paths))
        records = records.map_batches(decode_batch, batch_size=1, batch_format="pyarrow")
    else:
        records = ray.data.from_items([{"key": path} for path in paths], override_num_blocks=len(paths))
        records = records.map_batches(fetch_batch, batch_size=1)
    answers = records.map_batches(Student, batch_size=rows, **pool)
    target = f"{JOB['bucket']}/{JOB['target']}/{time.time_ns()}"
    answers.write_parquet(target, filesystem=files())
    ended = time.time()
    first = min(float(path.read_text()) for path in Path(ready).iterdir())
    written = pyarrow.dataset.dataset(target, filesystem=files(), format="parquet").count_rows()
    wanted = sum(count for _, count in shards)
    if written != wanted:
        raise SystemExit(f"Ray wrote {written} rows where {wanted} were asked for")
    return wanted / (ended - max(begun, first))


if __name__ == "__main__":
    ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="error", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    for way, rows in JOB["ways"]:
        run(JOB["shards"][:WARM_UP_SHARDS], way, rows)
        speed = run(JOB["shards"], way, rows)
        print(json.dumps({"way": way, "batch": rows, "images_per_second": speed}), flush=True)
    ray.shutdown()
