"""A site whose camera has changed: its digits are blurred, noisy or inverted, and the run says which site it is."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.catalog import Catalog
from infra import sources, storage

pytestmark = pytest.mark.e2e

ENTRY = """
description: Digits that no model has seen, some of them as a camera that has changed would give them
license: as mnist-5k
format: npy
sources: [{{ site: edge-1, uri: {folder}/clean.npy }}, {{ site: edge-2, uri: {folder}/noisy.npy }}, {{ site: edge-3, uri: {folder}/inverted.npy }}]
record: {{ shape: [28, 28, 1], dtype: uint8 }}
residency: unsure-rows
"""


def test_sites_whose_data_have_shifted_are_flagged_and_no_other(quick_run, up_home, tmp_path):
    mnist = Catalog().dataset("mnist-5k")
    path = storage.local_copy(mnist.sources[0].uri, tmp_path)
    x = next(iter(sources.read_records(mnist, mnist.sources[0], path, ("test",)))).x[:600]
    noise = np.random.default_rng(0).normal(0, 60, x[200:400].shape)
    np.save(tmp_path / "clean.npy", x[:200])
    np.save(tmp_path / "noisy.npy", np.clip(x[200:400] + noise, 0, 255).astype(np.uint8))
    np.save(tmp_path / "inverted.npy", 255 - x[400:])
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "shifted.yaml").write_text(ENTRY.format(folder=tmp_path))
    report = up_home.run("--model", "quick", "--dataset", "shifted", "--catalog", str(tmp_path))
    drifts = {site["name"]: site["drift"] for site in report["sites"]}
    assert drifts["cloud"] is None
    assert {name: seen["flagged"] for name, seen in drifts.items() if seen} == {
        "edge-1": False, "edge-2": True, "edge-3": True
    }  # fmt: skip
    assert "sure of its answers" in drifts["edge-3"]["reason"]
    assert not any(site["drift"]["flagged"] for site in quick_run["sites"] if site["drift"])
