"""What names a batch and a model: everything that they depend on, and the labels beside an array too."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from data_catalog.catalog import Catalog
from data_catalog.nouns import Dataset
from infra import sources
from infra.workspace import workspace
from tasks.train_model import model_version

pytestmark = pytest.mark.unit

SPLITS = {"train": 0.5, "calibration": 0.1, "validation": 0.2, "test": 0.2}


def dataset(folder, **changes) -> Dataset:
    return Dataset.model_validate({
        "name": "d", "description": "", "license": "", "format": "npy", "splits": SPLITS,
        "sources": [{"site": "a", "uri": str(folder / "x.npy")}],
        "record": {"shape": [2], "dtype": "uint8", "label": "labels"},
    } | changes)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.uint8).reshape(10, 2))
    np.save(tmp_path / "x.labels.npy", np.array(["0", "1"] * 5))
    return tmp_path


def names(described: Dataset, folder) -> tuple[str, str]:
    model = Catalog().model("digits")
    files = sources.local_files(described, described.sources[0], folder / "work")
    fingerprint = sources.source_fingerprint(described, described.sources[0], files)
    return fingerprint, model_version(model, described, folder / "work")


def test_nothing_changed_nothing_changes(folder):
    assert names(dataset(folder), folder) == names(dataset(folder, description="other words"), folder)


def test_corrected_labels_are_another_batch_and_another_model(folder):
    before = names(dataset(folder), folder)
    np.save(folder / "x.labels.npy", np.array(["1", "0"] * 5))
    after = names(dataset(folder), folder)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_order_of_the_splits_counts_because_it_moves_rows(folder):
    turned = dataset(folder, splits=dict(reversed(SPLITS.items())))
    before, after = names(dataset(folder), folder), names(turned, folder)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_workspace_is_a_runs_own_and_goes_with_it(tmp_path):
    with workspace(tmp_path) as one, workspace(tmp_path) as other:
        (one / "file").touch()
        assert one != other
        assert list(other.iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / "work" / f"{ended.pid}-left"
    left.mkdir(parents=True)
    living = tmp_path / "work" / f"{os.getppid()}-living"
    living.mkdir()
    with workspace(tmp_path):
        assert not left.exists()
        assert living.exists()
