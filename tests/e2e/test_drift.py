"""A site whose camera has changed: its digits are noisy or inverted, and the run says which site it is."""

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
    blocks = sources.read_records(mnist, mnist.sources[0], path, ("test",))
    # the file is sorted by class, and a site with other classes would have drifted too
    x = np.concatenate([block.x for block in blocks])
    clean, noisy, inverted = (x[i::3] for i in range(3))
    noise = np.random.default_rng(0).normal(0, 60, noisy.shape)
    np.save(tmp_path / "clean.npy", clean)
    np.save(tmp_path / "noisy.npy", np.clip(noisy + noise, 0, 255).astype(np.uint8))
    np.save(tmp_path / "inverted.npy", 255 - inverted)
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
