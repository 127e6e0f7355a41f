"""Statistics: fitted once on the training rows of all sources, kept in the store, given to the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_catalog.errors import CatalogError, CorruptObject
from data_catalog.nouns import Dataset
from infra import fitting, sources
from infra.transforms import TRANSFORMS
from tasks.fit_transforms import fit_transforms

pytestmark = pytest.mark.integration

STEPS = ({"name": "fft"}, {"name": "normalise", "method": "range", "dtype": "uint8"})


def dataset(folder, name="fitted", steps=STEPS):
    return Dataset.model_validate({
        "name": name, "description": "", "license": "", "format": "npy", "splits": {"train": 0.5, "test": 0.5},
        "sources": [{"site": site, "uri": str(folder / f"{site}.npy")} for site in ("a", "b")],
        "record": {"shape": [16], "dtype": "float32"}, "transforms": steps,
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for seed, site in enumerate("ab"):
        np.save(tmp_path / f"{site}.npy", np.random.default_rng(seed).normal(seed, 1, (200, 16)).astype(np.float32))
    return tmp_path


def test_statistics_are_those_of_the_training_rows_of_all_sources(folder, up_store):
    batch, known = fit_transforms(dataset(folder), dataset(folder), folder / "work", up_store.bucket)
    assert batch == known
    before = dataset(folder, steps=STEPS[:1])
    rows = [
        block.x
        for source in before.sources
        for block in sources.read_records(before, source, folder / f"{source.name}.npy", ("train",))
    ]
    expected = TRANSFORMS.get("normalise").fit([np.concatenate(rows)], method="range", dtype="uint8")
    assert known.transforms[1].settings["statistics"] == expected
    x = np.concatenate([
        block.x
        for source in known.sources
        for block in sources.read_records(known, source, folder / f"{source.name}.npy", ("train",), threads=2)
    ])  # fmt: skip
    assert (x.dtype, x.min(), x.max()) == (np.uint8, 0, 255)


def test_they_are_read_from_the_store_and_checked(folder, up_store, monkeypatch):
    known = fitting.fitted(dataset(folder, "kept"), folder / "work", up_store)
    (key,) = up_store.keys("datasets/kept/statistics")
    with monkeypatch.context() as patch:
        patch.setattr(TRANSFORMS.get("normalise"), "fit", None)
        assert fitting.fitted(dataset(folder, "kept"), folder / "work", up_store) == known
    stored = json.loads(up_store.get(key))
    stored["statistics"]["low"][0] -= 1
    up_store.put(key, json.dumps(stored).encode())
    with pytest.raises(CorruptObject, match=key):
        fitting.fitted(dataset(folder, "kept"), folder / "work", up_store)
    np.save(folder / "a.npy", np.zeros((200, 16), np.float32))
    assert fitting.fitted(dataset(folder, "kept"), folder / "work", up_store) != known
    assert len(up_store.keys("datasets/kept/statistics")) == 2


def test_a_batch_is_scaled_as_the_models_dataset_or_refused(folder, up_store):
    other = dataset(folder, "other").model_copy(update={"sources": dataset(folder).sources[:1]})
    batch, known = fit_transforms(other, dataset(folder), folder / "work", up_store.bucket)
    assert batch.transforms == known.transforms
    assert batch.sources == other.sources
    assert up_store.keys("datasets/other/statistics") == []
    strange = dataset(folder, "strange", ({"name": "fft", "scale": "log"}, STEPS[1]))
    with pytest.raises(CatalogError, match="dataset strange: transform 'normalise' has no `statistics`"):
        fit_transforms(strange, dataset(folder), folder / "work", up_store.bucket)


def test_what_cannot_be_fitted_is_one_clear_line(folder, up_store):
    steps = ({"name": "normalise", "method": "median"},)
    with pytest.raises(CatalogError, match="dataset fitted: transform 'normalise': no method 'median'"):
        fitting.fitted(dataset(folder, steps=steps), folder / "work", up_store)
