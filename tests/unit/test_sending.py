"""How an origin sends its shards: two at a time, the last one alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.nouns import Dataset, Placement, Shard
from infra import keys, shards, spool, storage
from infra.links import UPLOADS
from infra.sources import Records
from tasks.compress_shards import compress_shards
from tests.stores import FolderStore

pytestmark = pytest.mark.unit

ROWS, COUNT = 8, 6


class Noting(FolderStore):
    """A store that takes its time, and notes who was being written beside each object."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.beside: dict[str, set[str]] = {}
        self.writing: set[str] = set()
        self.lock = threading.Lock()

    def put(self, key, data):
        with self.lock:
            self.writing.add(key)
            for each in self.writing:
                self.beside.setdefault(each, set()).update(self.writing)
        time.sleep(0.05)
        super().put(key, data)
        with self.lock:
            self.writing.remove(key)

    def present(self, wanted):
        return {key for key in wanted if self.exists(key)}


def test_two_shards_go_at_a_time_and_the_last_one_alone(tmp_path, monkeypatch):
    store = Noting(tmp_path / "store")
    monkeypatch.setattr(storage, "_stand_ins", {store.bucket: store})
    storage.open_store.cache_clear()
    x = np.random.default_rng(0).integers(0, 255, (COUNT * ROWS, 3)).astype(np.uint8)
    ids = pa.array([f"edge-1/{row:09d}" for row in range(len(x))])
    path = tmp_path / "spool" / "x.arrow"
    spool.write(path, [Records(ids=ids, x=x, labels=pa.nulls(len(x), pa.int64()), splits=None)], [])
    placements = []
    for first in range(0, len(x), ROWS):
        plain = shards.encode(ids.slice(first, ROWS), x[first : first + ROWS])
        name = shards.digest(plain)
        shard = Shard(
            digest=name, rows=ROWS, bytes=len(plain), raw_bytes=3 * ROWS, origin="edge-1", source="edge-1", first_row=first
        )  # fmt: skip
        placements.append(
            Placement(
                shard=shard, site="cloud", variant="v", codec="zstd", key=keys.shard("toy", name, "zstd"), result=name,
                reused=False, reason="as planned",
            )
        )  # fmt: skip
    dataset = Dataset.model_validate(
        {
            "name": "toy", "description": "", "license": "", "format": "npy", "shard_rows": ROWS,
            "sources": [{"site": "edge-1", "uri": "x.npy"}], "record": {"shape": [3], "dtype": "uint8"},
        }
    )  # fmt: skip
    try:
        stored = compress_shards(dataset, "edge-1", placements, path, False, store.bucket)
    finally:
        storage.open_store.cache_clear()
    assert store.present([placement.key for placement in placements]) == {placement.key for placement in placements}
    assert stored.bytes == stored.wan_bytes == sum(len(store.get(placement.key)) for placement in placements)
    assert store.beside[placements[-1].key] == {placements[-1].key}
    assert max(len(each) for each in store.beside.values()) > 1
    assert UPLOADS == 2
    assert stored.sending
    assert (stored.sending.objects, stored.sending.bytes) == (COUNT, stored.wan_bytes)
    assert stored.sending.seconds >= 0.05 * COUNT / UPLOADS
