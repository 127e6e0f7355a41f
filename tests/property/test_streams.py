"""Preprocessing in blocks and threads gives what one block in one thread gives, in order, in bounded memory."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import BadRecord, CatalogError
from data_catalog.nouns import Dataset
from infra import sources
from infra.compute import ROUND, map_stream
from infra.transforms import TRANSFORMS

pytestmark = pytest.mark.property

SPLITS = {"train": 0.5, "calibration": 0.1, "validation": 0.2, "test": 0.2}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 4))
def test_answers_come_in_the_order_of_the_blocks(naps, threads):
    def nap(number_and_nap):
        time.sleep(number_and_nap[1] / 5000)
        return number_and_nap[0]

    assert list(map_stream(nap, iter(enumerate(naps)), threads=threads)) == list(range(len(naps)))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_blocks_are_in_memory_than_three_rounds(threads):
    lock, alive, most = threading.Lock(), 0, 0

    def blocks():
        nonlocal alive, most
        for number in range(60):
            with lock:
                alive += 1
                most = max(most, alive)
            yield number

    for number, answer in enumerate(map_stream(lambda block: block, blocks(), threads=threads)):
        assert answer == number
        time.sleep(0.001)
        with lock:
            alive -= 1
    assert most <= 3 * ROUND * threads


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_in_a_block_or_in_the_reading_ends_the_stream(threads):
    def fails(number):
        if number == 7:
            raise ValueError("block 7")
        return number

    def breaks():
        yield from range(7)
        raise OSError("reading")

    for stream, error, reason in (
        (map_stream(fails, range(100), threads=threads), ValueError, "block 7"),
        (map_stream(int, breaks(), threads=threads), OSError, "reading"),
        (map_stream(int, map(fails, range(100)), threads=threads), ValueError, "block 7"),
    ):
        seen = []
        with pytest.raises(error, match=reason):
            seen.extend(stream)
        assert seen == list(range(7)), "what comes before the failure is given, and nothing after it"


def series(path, rows, channels=2):
    random = np.random.default_rng(rows)
    x = random.normal(size=(rows, channels)).astype(np.float32)
    np.save(path, x)
    labels = np.array(["ok", "worn", "broken"])[(np.arange(rows) // 7) % 3]
    np.save(path.with_suffix(".labels.npy"), labels)
    return x, labels


def dataset(transforms, splits=SPLITS, channels=2, **source):
    return Dataset.model_validate({
        "name": "d", "description": "", "license": "", "format": "npy", "splits": splits, "transforms": transforms,
        "sources": [{"site": "a", "uri": "x"} | source],
        "record": {"shape": [channels], "dtype": "float32", "label": "labels"},
    })  # fmt: skip


def gathered(made_up, path, **how):
    blocks = list(sources.read_records(made_up, made_up.sources[0], path, **how))
    return (
        [name for block in blocks for name in block.ids.to_pylist()],
        np.concatenate([block.x for block in blocks]) if blocks else None,
        [label for block in blocks for label in block.labels.to_pylist()],
        [split for block in blocks for split in block.splits.tolist()],
    )


STEPS = [
    {"name": "cast", "dtype": "float64"},
    {"name": "window", "size": 6, "step": 7},
    {"name": "fft", "window": "hann"},
    {"name": "augment", "noise": 0.5},
]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(8, 400), st.integers(1, 3), st.booleans())
def test_blocks_and_threads_change_nothing(tmp_path_factory, rows, block_bytes, threads, training):
    path = tmp_path_factory.mktemp("series") / "x.npy"
    series(path, rows)
    made_up = dataset(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        ids, x, labels, splits = gathered(made_up, path)
        patch.setattr(sources, "BLOCK_BYTES", block_bytes)
        cut = gathered(made_up, path, training=training, threads=threads)
    if x is None or not len(x):
        assert not cut[0]
        return
    if training:  # views are extra rows after those of their block: the originals are all there, in order
        first = [cut[0].index(name) for name in ids]
        assert sorted(first) == first
        assert len(cut[0]) == len(ids) + splits.count(0)
        cut = ([cut[0][i] for i in first], cut[1][first], [cut[2][i] for i in first], [cut[3][i] for i in first])
    assert cut[0] == ids
    np.testing.assert_array_equal(cut[1], x)
    assert cut[2] == labels
    assert cut[3] == splits


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20))
def test_a_window_is_named_by_its_first_row_and_stays_when_rows_are_appended(tmp_path_factory, rows, more):
    folder = tmp_path_factory.mktemp("series")
    made_up = dataset([{"name": "window", "size": 5, "step": 6}], rows={"modulo": 2, "remainders": [1]})
    x, _ = series(folder / "long.npy", rows + more)
    np.save(folder / "short.npy", x[:rows])
    np.save(folder / "short.labels.npy", np.load(folder / "long.labels.npy")[:rows])
    ids, windows, labels, splits = gathered(made_up, folder / "short.npy")
    more_ids, more_windows, more_labels, more_splits = gathered(made_up, folder / "long.npy")
    assert (more_ids[: len(ids)], more_labels[: len(ids)], more_splits[: len(ids)]) == (ids, labels, splits)
    for name, window in zip(more_ids, more_windows if more_windows is not None else (), strict=True):
        first = int(name.rpartition("/")[2])
        np.testing.assert_array_equal(window, x[first : first + 10 : 2])
    if windows is not None:
        np.testing.assert_array_equal(more_windows[: len(ids)], windows)


@pytest.mark.parametrize("bad", [{"fail": 0}, {"fail": 3}, {"quarantine": 3}])
def test_bad_records_are_the_same_ones_with_many_threads(tmp_path, bad, monkeypatch):
    ((what, every),) = bad.items()
    lines = [f"{row % 250},{'x' if every and row % 500 == 420 else 1}" for row in range(2000)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    made_up = dataset([]).model_copy(update={"format": "csv", "on_bad_record": what})
    made_up = made_up.model_copy(update={"record": type(made_up.record)(shape=(2,), dtype="uint8")})
    monkeypatch.setattr(sources, "BLOCK_BYTES", 100)

    def outcome(threads):
        ids, rejected = [], []
        blocks = sources.read_records(
            made_up, made_up.sources[0], tmp_path / "x.csv", threads=threads, quarantine=rejected.extend
        )
        try:
            for block in blocks:
                ids += block.ids.to_pylist()
        except BadRecord as error:
            return ids, rejected, str(error)
        return ids, rejected, ""

    one, many = outcome(1), outcome(4)
    assert one == many
    assert len(one[1]) == (4 if what == "quarantine" else 0)
    assert ("row 420" in one[2]) == (what == "fail" and every > 0)


def test_a_batch_never_goes_through_what_is_for_training(tmp_path):
    path = tmp_path / "x.npy"
    series(path, 90)
    plain, noisy = dataset([]), dataset([{"name": "augment", "noise": 9.0}])
    for splits in ((), ("train",), ("test",)):
        np.testing.assert_array_equal(gathered(noisy, path, splits=splits)[1], gathered(plain, path, splits=splits)[1])
    assert sources.preprocessing_digest(noisy) == sources.preprocessing_digest(plain)
    assert sources.preprocessing_digest(noisy, training=True) != sources.preprocessing_digest(plain, training=True)
    taught = gathered(noisy, path, training=True)
    assert [row for row, split in zip(taught[1].tolist(), taught[3], strict=True) if split] == [
        row for row, split in zip(gathered(plain, path)[1].tolist(), gathered(plain, path)[3], strict=True) if split
    ]


def test_statistics_are_part_of_the_preprocessing(tmp_path):
    one, other = (
        dataset([{"name": "normalise", "statistics": {"mean": [0, 0], "std": [1, scale]}}]) for scale in (1, 2)
    )
    assert sources.preprocessing_digest(one) != sources.preprocessing_digest(other)
    series(tmp_path / "x.npy", 9)
    with pytest.raises(CatalogError, match="'normalise': it is not fitted"):
        gathered(dataset([{"name": "normalise"}]), tmp_path / "x.npy")


def test_only_one_transform_regroups_and_none_for_training_stands_before_it(tmp_path):
    series(tmp_path / "x.npy", 9)
    window, augment = {"name": "window", "size": 2}, {"name": "augment", "noise": 1.0}
    for steps in ([window, window], [augment, window]):
        with pytest.raises(CatalogError, match="one transform may regroup"):
            gathered(dataset(steps), tmp_path / "x.npy")


def test_windows_that_share_rows_are_no_records_of_a_dataset_with_splits(tmp_path):
    x, _ = series(tmp_path / "x.npy", 9)
    steps = [{"name": "window", "size": 4, "step": 2}]
    with pytest.raises(CatalogError, match="'window': records that share rows"):
        gathered(dataset(steps), tmp_path / "x.npy")
    made_up = dataset(steps, {})
    (block,) = sources.read_records(made_up, made_up.sources[0], tmp_path / "x.npy")
    np.testing.assert_array_equal(block.x, [x[0:4], x[2:6], x[4:8]])


def test_the_kinds_are_those_of_the_contract():
    from infra.transforms import KINDS, kind

    assert {kind(TRANSFORMS.get(name)) for name in TRANSFORMS.names()} == set(KINDS)
