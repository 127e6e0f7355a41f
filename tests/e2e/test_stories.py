"""A small version of the manufacturing story on the whole stack: windows, spectra, fitted limits, training views."""

from __future__ import annotations

import re

import pytest

from data_catalog.catalog import BUILT_IN

pytestmark = pytest.mark.e2e

BOUND = ("--bound", "0.1")  # what the few validation rows of a small hall can show


@pytest.fixture
def catalog(tmp_path):
    """The story with a tenth of the rows and a model that is hardly trained, and a batch of other recordings."""
    for kind in ("datasets", "models"):
        (tmp_path / kind).mkdir()
    entry = (BUILT_IN / "datasets" / "synthetic-bearing-vibration.yaml").read_text()
    small = re.sub(r"rows=\d+", "rows=122880", entry)
    (tmp_path / "datasets" / "synthetic-small-hall.yaml").write_text(small)
    other = re.sub(r"^(splits|batch):.*\n", "", small.replace("seed=", "seed=7"), flags=re.MULTILINE)
    (tmp_path / "datasets" / "synthetic-other-hall.yaml").write_text(other)
    model = (BUILT_IN / "models" / "bearing-faults.yaml").read_text()
    model = model.replace("synthetic-bearing-vibration", "synthetic-small-hall")
    model = re.sub(r"epochs: \d+, batch: 64", "epochs: 8, batch: 16", model)
    (tmp_path / "models" / "hall.yaml").write_text(
        re.sub(r"^gate:.*", "gate: { max_drop: 1, max_class_drop: 1 }", model, flags=re.MULTILINE)
    )
    return tmp_path


def test_windows_are_answered_once_and_other_recordings_are_scaled_as_the_models_were(up_home, up_store, catalog):
    report = up_home.run("--catalog", str(catalog), "--dataset", "synthetic-small-hall", "--model", "hall", *BOUND)
    assert report["rows_out"] == report["rows_in"]
    assert report["rows_in"] < 360
    assert report["accuracy"]["cascade"] > 0.6
    (limits,) = up_store.keys("datasets/synthetic-small-hall/statistics")
    written = up_store.get(limits)
    other = up_home.run("--catalog", str(catalog), "--dataset", "synthetic-other-hall", "--model", "hall", *BOUND)
    assert other["rows_out"] == 360
    assert other["accuracy"]["cascade"] > 0.3
    assert up_store.keys("datasets/synthetic-other-hall/statistics") == []
    again = up_home.run("--catalog", str(catalog), "--dataset", "synthetic-small-hall", "--model", "hall", *BOUND)
    assert again["computed_results"] == 0
    assert again["model_version"] == report["model_version"]
    assert up_store.get(limits) == written
