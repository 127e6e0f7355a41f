"""Records that do not fit, on a real store: they stop the run, or lie in quarantine with their reasons."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from data_catalog.errors import BadRecord
from data_catalog.nouns import Dataset
from infra import keys, sources
from infra.spool import Spool
from tasks.cut_shards import cut_shards
from tasks.preprocess_source import preprocess_source

pytestmark = pytest.mark.integration

ROWS = ["1,2,a", "3,4,b", "5,word,a", "7", "9,300,b", "11,12,a", ",14,b", "15,16,a"]
BAD = {2: "word", 3: "1 columns", 4: "300", 6: "no value"}


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(ROWS) + "\n")

    def make(on_bad_record: str, **changes) -> Dataset:
        return Dataset.model_validate({
            "name": f"bad-{tmp_path.name.replace('_', '-').lower()[:50]}", "description": "", "license": "",
            "sources": [{"site": "edge-1", "uri": str(path)}], "on_bad_record": on_bad_record,
            "record": {"shape": [2], "dtype": "uint8", "label": 2},
        } | changes)  # fmt: skip

    return make


def cut(store, dataset, preprocessed, work) -> None:
    """Indexes and shards, as a run would leave them."""
    index = cut_shards(dataset, "edge-1", preprocessed.fingerprint, preprocessed.spool, work, store.bucket)
    for shard in index.shards:
        store.put(keys.shard(dataset.name, shard.digest, "none"), b"whatever")


def test_a_bad_record_stops_the_run_by_file_and_row(dataset, up_store, tmp_path):
    with pytest.raises(BadRecord, match=r"bad\.csv, row 2: .*word.* is not a number"):
        preprocess_source(dataset("fail"), "edge-1", tmp_path / "work", up_store.bucket)


def test_bad_records_are_left_out_and_stored_with_their_reasons(dataset, up_store, tmp_path):
    described = dataset("quarantine")
    done = preprocess_source(described, "edge-1", tmp_path / "work", up_store.bucket)
    assert done.quarantined_rows == len(BAD)
    assert done.spool
    ids, x, labels, _ = Spool(done.spool).read(0, len(ROWS) - len(BAD))
    assert [int(name.rpartition("/")[2]) for name in ids.to_pylist()] == [0, 1, 5, 7]
    assert x.tolist() == [[1, 2], [3, 4], [11, 12], [15, 16]]
    assert labels.to_pylist() == ["a", "b", "a", "a"]
    table = pq.read_table(io.BytesIO(up_store.get(keys.quarantine(described.name, "edge-1", done.fingerprint))))
    assert table["row"].to_pylist() == list(BAD)
    assert set(table["file"].to_pylist()) == {described.sources[0].uri}
    for reason, part in zip(table["reason"].to_pylist(), BAD.values(), strict=True):
        assert part in reason


def test_the_next_run_knows_how_many_were_left_out(dataset, up_store, tmp_path):
    described = dataset("quarantine")
    first = preprocess_source(described, "edge-1", tmp_path / "work", up_store.bucket)
    cut(up_store, described, first, tmp_path)
    again = preprocess_source(described, "edge-1", tmp_path / "work", up_store.bucket)
    assert (again.spool, again.quarantined_rows) == (None, len(BAD))
    up_store.delete(keys.quarantine(described.name, "edge-1", first.fingerprint))
    made_anew = preprocess_source(described, "edge-1", tmp_path / "work", up_store.bucket)
    assert made_anew.spool is not None
    assert made_anew.quarantined_rows == len(BAD)


def test_what_was_quarantined_once_still_fails_where_it_must(dataset, up_store, tmp_path):
    lenient = dataset("quarantine")
    first = preprocess_source(lenient, "edge-1", tmp_path / "work", up_store.bucket)
    cut(up_store, lenient, first, tmp_path)
    with pytest.raises(BadRecord, match="row 2"):
        preprocess_source(dataset("fail"), "edge-1", tmp_path / "work", up_store.bucket)


def test_of_a_shared_file_each_source_has_its_own(dataset, tmp_path):
    uri = dataset("fail").sources[0].uri
    shared = dataset(
        "quarantine",
        sources=[{"site": f"s{i}", "uri": uri, "rows": {"modulo": 2, "remainders": [i]}} for i in range(2)],
    )
    for i, source in enumerate(shared.sources):
        seen: list = []
        for _ in sources.read_records(shared, source, tmp_path / "bad.csv", quarantine=seen.extend):
            pass
        assert [bad.row for bad in seen] == [row for row in BAD if row % 2 == i]


def test_a_source_without_a_good_record_is_an_error(dataset, up_store, tmp_path):
    described = dataset("quarantine", record={"shape": [2], "dtype": "uint8", "label": 2, "low": 100, "high": 110})
    with pytest.raises(BadRecord, match=r"no record in the batch \(8 do not fit the schema, see datasets/"):
        preprocess_source(described, "edge-1", tmp_path / "work", up_store.bucket)
