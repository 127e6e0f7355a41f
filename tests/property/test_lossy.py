"""Lossy coding from a dataset's key to the shard index: asked for by name, part of every name, its error recorded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import CatalogError, UnknownName
from data_catalog.nouns import Dataset
from infra import codec_trials, keys, ledger, shards, sources, spool, storage
from infra.codecs import CODECS
from infra.lossy import jpeg
from infra.lossy.bitround import apply
from tasks.cut_shards import cut_shards
from tasks.preprocess_source import preprocess_source
from tests.stores import FolderStore

pytestmark = pytest.mark.property


@given(
    st.sampled_from((("float32", 23), ("float64", 52))).flatmap(
        lambda kind: st.tuples(
            hnp.arrays(kind[0], hnp.array_shapes(max_dims=2), elements={"allow_nan": False, "allow_infinity": False}),
            st.integers(1, kind[1]),
        )
    )
)
def test_bit_rounding_keeps_its_bound(drawn):
    x, bits = drawn
    rounded = apply(x, bits)
    error = np.abs(rounded.astype(np.longdouble) - x.astype(np.longdouble))
    smallest = np.finfo(x.dtype).smallest_normal  # numbers below it have fewer bits to begin with
    assert (error <= np.longdouble(2.0) ** -(bits + 1) * np.maximum(np.abs(x), smallest)).all()


def dataset_of(folder, **more) -> Dataset:
    return Dataset.model_validate(
        {
            "name": "made-up", "description": "", "license": "", "format": "npy", "shard_rows": 100,
            "sources": [{"site": "a", "uri": str(folder / "x.npy")}], "record": {"shape": [32], "dtype": "float32"},
        } | more
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((250, 32)).astype(np.float32))
    return tmp_path


@pytest.fixture
def store(tmp_path, monkeypatch):
    store = FolderStore(tmp_path / "store")
    monkeypatch.setattr(storage, "open_store", lambda bucket=None: store)
    return store


def test_the_shards_hold_the_rounded_values_and_the_index_the_largest_error(folder, store):
    dataset = dataset_of(folder, lossy={"name": "bitround", "bits": 5})
    prepared = preprocess_source(dataset, "a", folder, store.bucket)
    x = np.load(folder / "x.npy")
    rounded = apply(x, 5)
    worst = float(np.abs(rounded.astype(np.float64) - x).max())
    assert prepared.lossy_error == worst > 0
    index = cut_shards(dataset, "a", prepared.fingerprint, prepared.spool, folder, store.bucket, prepared.lossy_error)
    assert index.lossy_error == worst
    key = keys.shard_index("made-up", "a", prepared.fingerprint)
    assert ledger.read_index(store.get(key), key) == index
    batch = spool.Spool(prepared.spool)
    first = index.shards[0]
    ids, values, _, _ = batch.read(0, first.rows)
    np.testing.assert_array_equal(values, rounded[: first.rows])
    plain = shards.encode(ids, values)
    assert shards.digest(plain) == first.digest
    for codec in ("zstd", "shuffle_zstd"):  # any lossless codec carries it, and gains by it
        assert len(shards.pack(plain, codec)) < 0.75 * len(shards.pack(shards.encode(ids, x[: first.rows]), codec))


def test_what_is_asked_for_is_part_of_the_name(folder):
    plain = dataset_of(folder)
    five, six = (dataset_of(folder, lossy={"name": "bitround", "bits": bits}) for bits in (5, 6))
    assert len({sources.preprocessing_digest(dataset) for dataset in (plain, five, six)}) == 3


def test_without_it_nothing_is_lost(folder, store):
    prepared = preprocess_source(dataset_of(folder), "a", folder, store.bucket)
    assert prepared.lossy_error == 0
    np.testing.assert_array_equal(spool.Spool(prepared.spool).read(0, 250)[1], np.load(folder / "x.npy"))


@pytest.mark.parametrize(
    ("lossy", "error", "says"),
    [
        ({"name": "bitround", "bits": 0}, CatalogError, "from 1 to 23"),
        ({"name": "bitround", "bits": 2.5}, CatalogError, "from 1 to 23"),
        ({"name": "bitround"}, CatalogError, "bits"),
        ({"name": "bitround", "bits": 3, "x": 1}, CatalogError, "correct `lossy`"),
        ({"name": "bitrund", "bits": 3}, UnknownName, r"key `lossy`\); did you mean 'bitround'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(folder, store, lossy, error, says):
    with pytest.raises(error, match=says):
        preprocess_source(dataset_of(folder, lossy=lossy), "a", folder, store.bucket)


def test_integers_are_not_rounded(folder, store):
    np.save(folder / "x.npy", np.zeros((250, 32), np.int32))
    dataset = dataset_of(folder, record={"shape": [32], "dtype": "int32"}, lossy={"name": "bitround", "bits": 3})
    with pytest.raises(CatalogError, match="rounds float32 and float64, not int32"):
        preprocess_source(dataset, "a", folder, store.bucket)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_went_through_jpeg_are_carried_as_jpeg(channels):
    rng = np.random.default_rng(2)
    smooth = rng.normal(0, 1, (48, 40, 32, channels)).cumsum(1).cumsum(2)
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    images = np.clip((smooth - low) / (high - low) * 255 + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    coded = jpeg.apply(images, quality=80)
    assert 0 < np.abs(coded.astype(int) - images).max() < 100
    ids = sources.record_ids("a", np.arange(len(images)))
    plain, raw = shards.encode(ids, coded), shards.encode(ids, images)
    packed = {name: shards.pack(plain, name) for name in ("jpeg", "png", "jpegls", "zstd_19")}
    assert 1.3 * len(packed["jpeg"]) < min(len(each) for name, each in packed.items() if name != "jpeg")
    assert CODECS.get("jpeg").decompress(packed["jpeg"], len(plain)) == plain
    assert shards.unpack(shards.pack(raw, "jpeg"), "jpeg", len(raw), shards.digest(raw), "k") == raw
    assert max(codec_trials.measure(plain).tried, key=lambda trial: trial.ratio).codec == "jpeg"
    assert "jpeg" in codec_trials.measure(raw).left_out, "it is never lossy by itself"


def test_an_image_that_does_not_settle_stays_as_it_was(monkeypatch):
    images = np.random.default_rng(3).integers(0, 256, (6, 9, 9, 1), np.uint8)
    images[:2] = 77
    monkeypatch.setattr(jpeg, "ROUNDS", 1)
    np.testing.assert_array_equal(jpeg.apply(images, quality=50), images)
    monkeypatch.undo()
    assert (jpeg.apply(images, quality=50)[2:] != images[2:]).any()


@pytest.mark.parametrize(
    ("shape", "dtype", "quality", "says"),
    [
        ((8, 8), "uint8", 90, "images"),
        ((8, 8, 2), "uint8", 90, "1 or 3 channels"),
        ((8, 8), "uint16", 90, "uint16"),
        ((8, 8, 1), "uint8", 91, "one of 50"),
    ],
)
def test_what_jpeg_cannot_code_is_said(shape, dtype, quality, says):
    records = np.zeros((4, *shape) if len(shape) == 3 or dtype != "uint8" else shape, dtype)
    with pytest.raises(ValueError, match=says):
        jpeg.apply(records, quality=quality)
