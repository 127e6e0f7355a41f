"""The ledger: what is written is read back, and damage is never silent."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import CorruptObject
from data_catalog.nouns import CodecTrial, Shard
from infra import ledger

pytestmark = pytest.mark.property

FINITE = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**40)
PACKED = st.none() | st.builds(
    ledger.Packed, FINITE, st.sampled_from(["zstd", "none"]), COUNTS, st.text(max_size=64), COUNTS
)


@given(ids=st.lists(st.text(max_size=30), min_size=1, max_size=50), packed=PACKED, data=st.data())
def test_a_result_is_read_back_as_it_was_written(ids, packed, data):
    prediction = data.draw(hnp.arrays(np.int32, len(ids)))
    confidence = data.draw(hnp.arrays(np.float32, len(ids), elements=st.floats(0, 1, width=32)))
    tier = data.draw(st.sampled_from(["edge", "cloud"]))
    written = ledger.write_result(pa.array(ids, pa.string()), prediction, confidence, tier, "variant", packed)
    table = ledger.read_result(written, "k")
    assert table["record_id"].to_pylist() == ids
    np.testing.assert_array_equal(table["prediction"].to_numpy(), prediction)
    np.testing.assert_array_equal(table["confidence"].to_numpy(), confidence)
    assert set(table["tier"].to_pylist()) == {tier}
    assert set(table["variant"].to_pylist()) == {"variant"}
    assert ledger.packed_in(table) == packed
    again = ledger.write_result(pa.array(ids, pa.string()), prediction, confidence, tier, "variant", packed)
    assert again == written, "writing a result twice must write the same object"


def some_result() -> bytes:
    ids = pa.array([f"edge-1/{row:09d}" for row in range(40)])
    confidence = np.linspace(0.1, 1, 40).astype(np.float32)
    packed = ledger.Packed(0.71, "zstd", 3, "ab" * 32, 1000)
    return ledger.write_result(ids, np.arange(40, dtype=np.int32) % 10, confidence, "edge", "cd" * 32, packed)


RESULT = some_result()
FOOTER = len(RESULT) - 8 - int.from_bytes(RESULT[-8:-4], "little")


@given(position=st.integers(0, len(RESULT) - 1), flip=st.integers(1, 255))
@example(position=len(RESULT) - 5, flip=0x80)  # the footer's length
@example(position=FOOTER + RESULT[FOOTER:].index(b"0.71"), flip=1)  # what the result remembers
@example(position=FOOTER - 1, flip=1)  # the digest itself
def test_a_flipped_byte_is_an_error(position, flip):
    damaged = bytearray(RESULT)
    damaged[position] ^= flip
    message = "^results/aa/k.parquet is corrupt .*; delete that object and run again$"
    with pytest.raises(CorruptObject, match=message):
        ledger.read_result(bytes(damaged), "results/aa/k.parquet")


@given(st.integers(0, len(RESULT) - 1), st.binary(min_size=1, max_size=20))
def test_a_cut_or_extended_result_is_named(kept, tail):
    for damaged in (RESULT[:kept], RESULT + tail, RESULT[kept:] + RESULT[:kept] if kept else b""):
        with pytest.raises(CorruptObject, match=r"^k is corrupt"):
            ledger.read_result(damaged, "k")


@given(st.binary(max_size=300))
def test_anything_else_is_no_result(data):
    with pytest.raises(CorruptObject, match=r"^k is "):
        ledger.read_result(data, "k")
    with pytest.raises(CorruptObject, match=r"^k is "):
        ledger.read_index(data, "k")


SHARDS = st.lists(
    st.builds(
        Shard,
        digest=st.text(max_size=64),
        rows=COUNTS,
        bytes=COUNTS,
        raw_bytes=COUNTS,
        origin=st.just("edge-1"),
        source=st.text(max_size=20),
        first_row=COUNTS,
    ),
    max_size=20,
)
TRIALS = st.lists(
    st.builds(
        CodecTrial,
        codec=st.text(max_size=8),
        ratio=FINITE,
        compress_bytes_per_second=FINITE,
        decompress_bytes_per_second=FINITE,
    ),
    max_size=4,
)


@given(SHARDS, TRIALS, st.text(max_size=64))
def test_an_index_is_read_back_as_it_was_written(shards, trials, fingerprint):
    index = ledger.read_index(ledger.write_index(shards, fingerprint, trials), "k")
    assert index == ledger.Index(tuple(shards), fingerprint, tuple(trials))


def test_a_result_is_no_index_and_an_index_no_result():
    with pytest.raises(CorruptObject, match="k is not a shard index"):
        ledger.read_index(RESULT, "k")
    with pytest.raises(CorruptObject, match="k is not a result"):
        ledger.read_result(ledger.write_index([], "f", []), "k")


def test_other_tools_read_it_too(tmp_path):
    """The digest inside is between our writer and our reader: to all others this is plain Parquet."""
    import pyarrow.parquet as pq

    (tmp_path / "r.parquet").write_bytes(RESULT)
    with pq.ParquetFile(tmp_path / "r.parquet", page_checksum_verification=True) as file:
        assert file.read().equals(ledger.read_result(RESULT, "k"))
