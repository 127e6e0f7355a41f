"""Shard sizes: equal when cut afresh, the same after an append, never larger than a site can hold."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.nouns import Dataset, Site
from infra import partition

pytestmark = pytest.mark.property

APPENDS = st.lists(st.integers(1, 400), min_size=1, max_size=60)


@given(rows=st.integers(0, 10_000), most=st.integers(1, 500))
def test_a_fresh_cut_is_equal_to_within_a_row(rows, most):
    sizes = partition.shard_sizes(rows, most)
    assert sum(sizes) == rows
    assert all(1 <= size <= most for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-rows // most), "no more shards than needed"


@given(rows=st.integers(1, 10_000), more=st.integers(0, 500), most=st.integers(1, 500))
def test_the_first_append_moves_nothing_that_is_half_full(rows, more, most):
    before = partition.shard_sizes(rows, most)
    after = partition.shard_sizes(rows + more, most, before)
    assert sum(after) == rows + more
    if 2 * before[-1] >= most:
        assert after[: len(before)] == before
        new = after[len(before) :]
        assert not new or max(new) - min(new) <= 1


@given(appends=APPENDS, most=st.integers(1, 300))
def test_appends_without_end_leave_few_short_shards_and_cut_few_anew(appends, most):
    sizes: list[int] = []
    cut_anew = 0
    for rows in accumulate(appends):
        after = partition.shard_sizes(rows, most, sizes)
        assert sum(after) == rows
        assert all(1 <= size <= most for size in after)
        same = next(
            (i for i, (a, b) in enumerate(zip(sizes, after, strict=False)) if a != b), min(len(sizes), len(after))
        )
        cut_anew += sum(sizes[same:])
        sizes = after
    short = [size for size in sizes if 2 * size < most]
    assert len(short) <= most.bit_length()
    assert short == sorted(short, reverse=True)
    assert cut_anew <= sum(appends) * most.bit_length()


@given(rows=st.integers(0, 3000), earlier=st.lists(st.integers(1, 300), max_size=20), most=st.integers(1, 300))
def test_any_earlier_sizes_give_a_whole_cut(rows, earlier, most):
    """Rows may also have been removed, and the limit may have changed."""
    sizes = partition.shard_sizes(rows, most, earlier)
    assert sum(sizes) == rows
    assert all(1 <= size <= most for size in sizes)


def dataset(**more) -> Dataset:
    given_keys = {
        "name": "d",
        "description": "",
        "license": "",
        "format": "npy",
        "sources": [{"site": "a", "uri": "u"}],
    }
    return Dataset.model_validate(given_keys | {"record": {"shape": [3], "dtype": "int32"}} | more)


def test_the_smallest_site_says_how_large_a_shard_is():
    small = Site(name="small", tier="edge", threads=1, memory_bytes=72 << 20)
    large = Site(name="large", tier="cloud", threads=8, memory_bytes=64 << 30)
    silent = Site(name="silent", tier="edge")
    wish = dataset(shard_bytes=16 << 20)
    assert partition.sized(wish, [large, silent]).shard_bytes == 16 << 20
    assert partition.sized(wish, [large, small, silent]).shard_bytes == 2 << 20
    assert partition.rows_of_a_shard(partition.sized(wish, [small]), 1 << 10) == 2 << 10


def test_rows_are_what_the_bytes_hold_unless_the_dataset_says():
    assert partition.rows_of_a_shard(dataset(shard_bytes=1000), 100) == 10
    assert partition.rows_of_a_shard(dataset(shard_bytes=10), 100) == 1, "a record larger than a shard is a shard"
    assert partition.rows_of_a_shard(dataset(shard_bytes=10, shard_rows=7), 100) == 7
