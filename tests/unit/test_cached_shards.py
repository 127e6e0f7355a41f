"""The engine reads what crossed the site's link once from the site's disk, and counts no bytes of the link for it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.errors import CorruptObject
from data_catalog.nouns import OrderedShard, VariantCard
from infra import engine, keys, shards
from infra.codecs import CODECS

pytestmark = pytest.mark.unit

CARD = VariantCard(
    model="m", version="v", tier="edge", recipe="r", runtime="litert", runtime_version="1", key="k", digest="d", bytes=1,
    classes=("0", "1"), shape=(4,), dtype="uint8", temperature=1.0, validation_rows=1, accuracy=1.0,
    accuracy_interval=(1.0, 1.0), class_accuracy=(1.0, 1.0), agreement=1.0, made_seconds=0.0,
)  # fmt: skip


class Memory(dict):
    """A store of one process."""

    get = dict.__getitem__
    put = dict.__setitem__

    def exists(self, key: str) -> bool:
        return key in self


class Predictors:
    startup_seconds = 0.0

    @contextmanager
    def borrow(self):
        yield lambda x: np.stack([x.sum(1), -x.sum(1).astype(int)], axis=1).astype(np.float32)


def stored(store: Memory, local: bool) -> OrderedShard:
    plain = shards.encode(pa.array(["a/0", "a/1"]), np.arange(8, dtype=np.uint8).reshape(2, 4))
    key = keys.shard("d", shards.digest(plain), "zstd")
    store.put(key, CODECS.get("zstd").compress(plain))
    return OrderedShard(
        key=key, digest=shards.digest(plain), rows=2, bytes=len(plain), codec="zstd", result="r1", local=local
    )


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("CLOUDEDGE_BUCKET", "AWS_ENDPOINT_URL", "CLOUDEDGE_SHARD_CACHE_MIB"):
        monkeypatch.delenv(name, raising=False)


def run(store: Memory, shard: OrderedShard, home: Path) -> engine.BlockDone:
    return engine.run_block(engine.Block("edge-1", CARD, 2, None, (shard,), store, home), Predictors())


def test_a_shard_over_the_link_crosses_it_once(tmp_path):
    store = Memory()
    shard = stored(store, local=False)
    size = len(store[shard.key])
    first = run(store, shard, tmp_path)
    result = store.pop(keys.result("r1"))
    second = run(store, shard, tmp_path)
    assert (first.bytes_in, first.wan_in) == (size, size)
    assert (second.bytes_in, second.wan_in) == (0, 0)
    assert store[keys.result("r1")] == result
    assert [path.name for path in (tmp_path / "sites" / "edge-1" / "shards").iterdir()] == [Path(shard.key).name]


def test_a_shard_on_the_premises_is_not_kept_twice(tmp_path):
    store = Memory()
    shard = stored(store, local=True)
    for _ in range(2):
        done = run(store, shard, tmp_path)
        assert (done.bytes_in, done.wan_in) == (len(store[shard.key]), 0)
    assert not (tmp_path / "sites").exists()


def test_no_cache_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_SHARD_CACHE_MIB", "0")
    store = Memory()
    shard = stored(store, local=False)
    for _ in range(2):
        assert run(store, shard, tmp_path).wan_in == len(store[shard.key])
    assert not (tmp_path / "sites").exists()


def test_a_damaged_entry_is_fetched_anew(tmp_path):
    store = Memory()
    shard = stored(store, local=False)
    run(store, shard, tmp_path)
    (entry,) = (tmp_path / "sites" / "edge-1" / "shards").iterdir()
    entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    assert run(store, shard, tmp_path).wan_in == len(store[shard.key])
    assert run(store, shard, tmp_path).wan_in == 0


def test_what_was_damaged_in_the_store_is_not_kept(tmp_path):
    """The remedy of the message helps: with the object made anew, the next run is well."""
    store = Memory()
    shard = stored(store, local=False)
    whole = store[shard.key]
    store[shard.key] = whole[:-1]
    with pytest.raises(CorruptObject, match=shard.key):
        run(store, shard, tmp_path)
    store[shard.key] = whole
    assert run(store, shard, tmp_path).rows == 2
