"""Splits and ids: functions of content and position that nothing else can change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.nouns import Dataset
from infra import sources
from infra.readers import READERS

pytestmark = pytest.mark.property

SPLITS = {"train": 0.5, "calibration": 0.1, "validation": 0.2, "test": 0.2}
RECORDS = st.sampled_from(["uint8", "int16", "float32", "float64"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(0, 30), st.integers(1, 20)),
        elements={"allow_nan": False} if dtype.startswith("float") else None,
    )
)


def dataset(x, splits=SPLITS, **changes):
    return Dataset.model_validate(
        {
            "name": "d",
            "description": "",
            "license": "",
            "format": "npy",
            "splits": splits,
            "sources": [{"site": "a", "uri": "x"}],
            "record": {"shape": x.shape[1:], "dtype": x.dtype.name},
        }
        | changes
    )


@given(RECORDS, st.randoms())
def test_a_split_follows_from_the_record_alone(x, random):
    made_up = dataset(x)
    splits = sources.assign_splits(x, made_up)
    assert splits.shape == (len(x),)
    assert ((splits >= 0) & (splits < len(SPLITS))).all()
    order = list(range(len(x)))
    random.shuffle(order)
    np.testing.assert_array_equal(sources.assign_splits(x[order], made_up), splits[order])
    np.testing.assert_array_equal(sources.assign_splits(np.concatenate([x, x]), made_up), np.tile(splits, 2))
    for row in range(min(3, len(x))):
        assert sources.assign_splits(x[row : row + 1], made_up)[0] == splits[row]
    changed = dataset(x, name="another", shard_rows=3, sources=[{"site": "b", "uri": "y", "name": "z"}])
    np.testing.assert_array_equal(sources.assign_splits(x, changed), splits)


@given(RECORDS)
def test_equal_records_are_never_parted(x):
    """Equal means equal as numbers: minus zero is zero."""
    twin = np.where(x == 0, -x, x) if x.dtype.kind == "f" else x
    np.testing.assert_array_equal(
        sources.assign_splits(twin.astype(x.dtype), dataset(x)), sources.assign_splits(x, dataset(x))
    )


@given(RECORDS, st.floats(0, 1))
def test_more_training_data_takes_records_from_the_next_split_only(x, share):
    """A record's place on the line from 0 to 1 stays, only the cuts move."""
    before = sources.assign_splits(x, dataset(x, {"train": 0.5, "test": 0.5}))
    after = sources.assign_splits(x, dataset(x, {"train": share, "test": 1 - share}))
    assert ((after <= before) if share >= 0.5 else (after >= before)).all()


@settings(max_examples=25)
@given(rows=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(3))), copies=st.integers(2, 5))
def test_splits_read_from_a_file_are_disjoint_and_lose_nothing(tmp_path_factory, rows, copies):
    path = tmp_path_factory.mktemp("splits") / "x.npy"
    x = np.tile(rows, (copies, 1))
    READERS.get("npy").write_example(path, x, None)
    made_up = dataset(x)
    seen, ids = {}, []
    for split in SPLITS:
        for block in sources.read_records(made_up, made_up.sources[0], path, [split]):
            for record in block.x:
                assert seen.setdefault(record.tobytes(), split) == split
            ids += block.ids.to_pylist()
    assert sorted(ids) == [f"a/{row:09d}" for row in range(len(x))]


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 7), st.data())
def test_the_rows_of_sources_that_share_a_file_are_its_rows_each_once(tmp_path_factory, count, modulo, data):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    x = np.arange(count, dtype=np.int32)[:, None]
    READERS.get("npy").write_example(path, x, None)
    cut = data.draw(st.integers(0, modulo))
    remainders = [r for r in (list(range(cut)), list(range(cut, modulo))) if r]
    made_up = dataset(
        x,
        {},
        sources=[
            {"site": f"s{i}", "uri": "x", "rows": {"modulo": modulo, "remainders": r}} for i, r in enumerate(remainders)
        ],
    )
    values = []
    for source in made_up.sources:
        for block in sources.read_records(made_up, source, path):
            numbers = [int(name.rpartition("/")[2]) for name in block.ids.to_pylist()]
            assert numbers == block.x[:, 0].tolist(), "an id is the number of its row in the file"
            values += numbers
    assert sorted(values) == list(range(count))
