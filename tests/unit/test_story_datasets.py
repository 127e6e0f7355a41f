"""The datasets that tell a story each: small versions load, are preprocessed and split as their entries say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from data_catalog.catalog import Catalog
from data_catalog.nouns import SPLITS, Dataset
from infra import fitting, sources, storage
from infra.transforms import TRANSFORMS

pytestmark = pytest.mark.unit

STORIES = {
    "synthetic-chest-xray": ("chest-xray", (28, 28, 1), 400, "site"),
    "synthetic-bearing-vibration": ("bearing-faults", (64, 2), 204_800, "unsure-rows"),
    "synthetic-street-cameras": ("street-traffic", (18, 32, 1), 300, "any"),
}


def small(name: str, rows: int) -> Dataset:
    """The catalog's entry over less data."""
    entry = Catalog().dataset(name)
    changed = [
        source.model_copy(update={"uri": re.sub(r"rows=\d+", f"rows={rows}", source.uri)}) for source in entry.sources
    ]
    return entry.model_copy(update={"sources": tuple(changed)})


def with_statistics(dataset: Dataset, path) -> Dataset:
    """As `infra.fitting` does it, over the first source and without a store."""
    for at, spec in enumerate(dataset.transforms):
        if fitting.needs_fit(spec, dataset):
            before = dataset.model_copy(update={"transforms": dataset.transforms[:at]})
            blocks = (block.x for block in sources.read_records(before, before.sources[0], path, ("train",)))
            statistics = TRANSFORMS.get(spec.name).fit(blocks, **spec.settings)
            filled = type(spec)(name=spec.name, **spec.settings, statistics=statistics)
            steps = (*dataset.transforms[:at], filled, *dataset.transforms[at + 1 :])
            dataset = dataset.model_copy(update={"transforms": steps})
    return dataset


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_preprocessed_as_its_model_needs_it(name, tmp_path):
    model, shape, rows, residency = STORIES[name]
    dataset = small(name, rows)
    assert name.startswith("synthetic-"), "made-up data says so in its name"
    assert dataset.residency == residency
    trained = Catalog().model(model)
    assert trained.trained_on == name
    path = storage.local_copy(dataset.sources[0].uri, tmp_path)
    dataset = with_statistics(dataset, path)
    labels, splits, ids = set(), [], []
    for block in sources.read_records(dataset, dataset.sources[0], path, threads=2):
        assert block.x.shape[1:] == shape
        assert block.x.dtype == np.uint8, "the int8 student takes bytes"
        assert block.x.std() > 5
        labels |= set(block.labels.to_pylist())
        splits += block.splits.tolist()
        ids += block.ids.to_pylist()
    assert labels == set(trained.classes)
    assert len(ids) == len(set(ids)) == (rows // 1024 if name == "synthetic-bearing-vibration" else rows)
    assert {list(dataset.splits)[split] for split in splits} == set(SPLITS)
    for split, share in enumerate(dataset.splits.values()):
        assert abs(splits.count(split) / len(splits) - share) < 0.12
