"""Handwritten digits at four sites, none of which has all ten classes, for tests of federated training."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_catalog.catalog import Catalog
from infra import storage
from infra.readers import READERS

SITES = ("edge-1", "edge-2", "edge-3", "edge-4")
CLASSES = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (0, 2, 4, 6, 8), (1, 3, 5, 7, 9))  # each is at two sites


@cache
def digits(rows_of_a_class: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Real digits, as many of each class."""
    dataset = Catalog().dataset("mnist-5k")
    path = storage.local_copy(dataset.sources[0].uri, Path())
    blocks = list(READERS.get("csv").read(path, dataset.record, 5000))
    x, y = np.concatenate([block.x for block in blocks]), np.concatenate([block.labels for block in blocks]).astype(int)
    chosen = np.concatenate([np.flatnonzero(y == c)[:rows_of_a_class] for c in range(10)])
    return x[chosen].astype(np.uint8).reshape(-1, 28, 28, 1), y[chosen]


def write_catalog(folder: Path, rows_of_a_class: int = 160) -> NDArray[np.uint8]:
    """A catalog with the dataset `skewed`, a file a site; its records."""
    x, y = digits(rows_of_a_class)
    for kind in ("datasets", "sites"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    second = np.arange(len(y)) % 2 == 1
    for site, classes in zip(SITES, CLASSES, strict=True):
        here = np.isin(y, classes) & (second if site in SITES[2:] else ~second)
        np.savez(folder / f"{site}.npz", x=x[here], y=y[here])
        (folder / "sites" / f"{site}.yaml").write_text("tier: edge\n")
    sources = "".join(f'  - {{ site: {site}, uri: "{folder / site}.npz" }}\n' for site in SITES)
    (folder / "datasets" / "skewed.yaml").write_text(
        "description: Digits of five classes at each of four sites\nlicense: as mnist-5k\nformat: npz\nsources:\n"
        f"{sources}record: {{ shape: [28, 28, 1], dtype: uint8, low: 0, high: 255, label: y }}\n"
        "splits: { train: 0.75, validation: 0.25 }\n"
    )
    return x
