"""Shards: encode and decode are one another's inverse, and a source is cut into equal ones."""

from __future__ import annotations

from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.nouns import Dataset
from infra import keys, ledger, shards, sources, spool, storage
from tasks.cut_shards import cut_shards
from tests.stores import FolderStore

pytestmark = pytest.mark.property

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=4, max_side=9))
)


@given(ARRAYS, st.data())
def test_a_shard_gives_back_what_it_was_made_of(x, data):
    ids = pa.array(data.draw(st.lists(st.text(max_size=20), min_size=len(x), max_size=len(x))), pa.string())
    plain = shards.encode(ids, x)
    back_ids, back = shards.decode(plain)
    assert back_ids.equals(ids)
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)
    assert shards.encode(back_ids, back) == plain, "the name of a shard must follow from its content"


@given(ARRAYS.filter(lambda x: len(x) > 1))
def test_how_an_array_lies_in_memory_does_not_change_its_name(x):
    ids = pa.array([str(row) for row in range(len(x))])
    assert shards.encode(ids, np.asfortranarray(x)) == shards.encode(ids, x)
    assert shards.encode(ids[::2], x[::2]) == shards.encode(ids[::2], x[::2].copy())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = FolderStore(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "open_store", lambda bucket=None: store)
        yield store


def dataset_of(shard_rows: int, name: str = "made-up") -> Dataset:
    return Dataset.model_validate(
        {
            "name": name,
            "description": "",
            "license": "",
            "format": "npy",
            "shard_rows": shard_rows,
            "sources": [{"site": "a", "uri": "unused"}],
            "record": {"shape": [3], "dtype": "int32"},
        }
    )


@settings(max_examples=25)
@given(rows=st.integers(1, 200), shard_rows=st.integers(1, 70), block=st.integers(1, 90))
def test_shards_of_a_source_are_equal_to_within_a_row(store, tmp_path_factory, rows, shard_rows, block):
    home = tmp_path_factory.mktemp("home")
    x = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    ids = sources.record_ids("a", np.arange(rows))
    labels = pa.array([str(row % 4) for row in range(rows)])
    parts = (slice(start, start + block) for start in range(0, rows, block))
    path = home / "sites" / "a" / "spool" / "batch.arrow"
    blocks = (sources.Records(ids[part], x[part], labels[part], None) for part in parts)
    assert spool.write(path, blocks, []) == rows

    for key in store.keys("datasets/made-up/index"):  # of the example before, which would be continued
        store.delete(key)
    index = cut_shards(dataset_of(shard_rows), "a", "print", path, home, store.bucket)

    sizes = [shard.rows for shard in index.shards]
    assert sum(sizes) == rows
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == ceil(rows / shard_rows)
    assert [shard.first_row for shard in index.shards] == [0, *np.cumsum(sizes)[:-1]]
    batch = spool.Spool(path)
    for shard in index.shards:
        part = slice(shard.first_row, shard.first_row + shard.rows)
        some_ids, some, some_labels, some_splits = batch.read(shard.first_row, shard.rows)
        np.testing.assert_array_equal(some, x[part])
        assert some_ids.equals(ids[part])
        assert some_labels.equals(labels[part])
        assert some_splits.null_count == shard.rows
        plain = shards.encode(some_ids, some)
        assert (shards.digest(plain), len(plain)) == (shard.digest, shard.bytes)
    # the two indexes that it stored say the same
    key = keys.shard_index("made-up", "a", "print")
    assert ledger.read_index(store.get(key), key) == index
    assert cut_shards(dataset_of(shard_rows), "a", "print", None, home, store.bucket) == index
    store.get_file(keys.record_index("made-up", "a", "print"), home / "records.parquet")
    with pq.ParquetFile(home / "records.parquet") as records:
        assert [records.metadata.row_group(i).num_rows for i in range(records.num_row_groups)] == sizes
        assert records.read()["record_id"].combine_chunks().equals(ids)


def cut(store, folder, dataset, x, fingerprint):
    """The shards of a batch that was preprocessed to `x`."""
    records = sources.Records(sources.record_ids("a", np.arange(len(x))), x, pa.nulls(len(x), pa.string()), None)
    spool.write(folder / "spool" / "batch.arrow", [records], [])
    return cut_shards(dataset, "a", fingerprint, folder / "spool" / "batch.arrow", folder, store.bucket).shards


@settings(max_examples=10)
@given(rows=st.integers(100, 300), seed=st.integers(0, 1000))
def test_a_hundredth_more_rows_leave_the_shards_that_were_there(store, tmp_path_factory, rows, seed):
    dataset = dataset_of(16, f"grows-{rows}-{seed}")
    x = np.random.default_rng(seed).integers(0, 9, (rows + rows // 100, 3), np.int32)
    before = cut(store, tmp_path_factory.mktemp("before"), dataset, x[:rows], "before")
    after = cut(store, tmp_path_factory.mktemp("after"), dataset, x, "after")
    assert after[: len(before)] == before
    assert sum(shard.rows for shard in after) == len(x)
    x[0] += 1  # a corrected record changes its own shard alone
    corrected = cut(store, tmp_path_factory.mktemp("corrected"), dataset, x, "corrected")
    assert [shard.digest for shard in corrected[1:]] == [shard.digest for shard in after[1:]]
    assert corrected[0].digest != after[0].digest


def test_a_lost_index_only_means_a_fresh_cut(store, tmp_path_factory):
    dataset = dataset_of(16, "lost")
    x = np.arange(150 * 3, dtype=np.int32).reshape(150, 3)
    cut(store, tmp_path_factory.mktemp("a"), dataset, x[:100], "first")
    store.put(keys.shard_index("lost", "a", "first"), b"damaged")
    sizes = [shard.rows for shard in cut(store, tmp_path_factory.mktemp("b"), dataset, x, "second")]
    assert max(sizes) - min(sizes) <= 1
