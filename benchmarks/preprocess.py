"""Preprocessing of a large source over the same by plain pandas and NumPy, and by Dask alone.

The work is: read a file, check every value against the schema, shrink pictures and scale them, and write the result
to the disk. Two files are measured, a CSV of grey pictures and an NPY of colour ones. Each way reads the same bytes
in blocks of about 4 MiB, so that memory stays flat, and makes the same values, which is checked. What only we do is
in our time: splits and ids by record, bad records by file and row, and Arrow with labels. Ways take turns; a ratio is
the median of the turns' ratios.

    python -m benchmarks.preprocess
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.nouns import Dataset
from infra import sources, spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TURNS = 6
CSV_BLOCK, NPY_BLOCK = 1_500, 450  # rows of about 4 MiB
THREADS = 2
CSV_ROWS, NPY_ROWS = 20_000, 20_000
PICTURE = (28, 28)
COLOUR = (48, 64, 3)
SPLITS = {"train": 0.5, "calibration": 0.1, "validation": 0.2, "test": 0.2}
STEPS: dict[str, list[dict[str, Any]]] = {
    "csv": [{"name": "reshape", "shape": [28, 28, 1]}, {"name": "resize", "height": 14, "width": 14}],
    "npy": [{"name": "grey"}, {"name": "crop", "height": 36, "width": 64, "top": 12}, {"name": "resize", "height": 18, "width": 32}],
}  # fmt: skip


def dataset(form: str) -> Dataset:
    """The catalog entry of a file."""
    shape = [PICTURE[0] * PICTURE[1]] if form == "csv" else list(COLOUR)
    steps = [
        *STEPS[form],
        {"name": "normalise", "method": "range", "by": "all", "statistics": {"low": [0], "high": [255]}},
    ]
    return Dataset.model_validate({
        "name": "large", "description": "", "license": "", "format": form, "splits": SPLITS, "transforms": steps,
        "sources": [{"site": "edge-1", "uri": "x"}],
        "record": {"shape": shape, "dtype": "uint8", "low": 0, "high": 255, "label": shape[0] if form == "csv" else "labels"},
    })  # fmt: skip


def write_files(folder: Path) -> dict[str, Path]:
    """The files, of seeded noise that is smooth enough to have small numbers too."""
    import pandas as pd

    random = np.random.default_rng(11)
    pictures = (random.random((CSV_ROWS, PICTURE[0] * PICTURE[1])) ** 4 * 256).astype(np.uint8)
    table = pd.DataFrame(pictures)
    table["label"] = random.integers(0, 10, CSV_ROWS)
    table.to_csv(folder / "x.csv", header=False, index=False)
    np.save(folder / "x.npy", random.integers(0, 256, (NPY_ROWS, *COLOUR), np.uint8))
    np.save(folder / "x.labels.npy", random.integers(0, 3, NPY_ROWS))
    return {"csv": folder / "x.csv", "npy": folder / "x.npy"}


def ours(form: str, path: Path, target: Path, threads: int) -> int:
    """The way of a run: read, check, split, transform, spool."""
    made_up = dataset(form)
    blocks = sources.read_records(made_up, made_up.sources[0], path, threads=threads)
    return spool.write(target, blocks, list(SPLITS))


def checked(x: NDArray[Any]) -> NDArray[np.uint8]:
    """What a careful script does: every value is a whole number from 0 to 255."""
    if not (np.isfinite(x).all() and (x >= 0).all() and (x <= 255).all() and (x == x.astype(np.uint8)).all()):
        raise ValueError("a bad value")
    return x.astype(np.uint8)


def transformed(form: str, x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a script writes with NumPy for the same steps: means of 2 x 2 pixels."""
    if form == "csv":
        images = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
    else:
        red, green, blue = (x[:, 12:, :, channel].astype(np.float32) for channel in range(3))
        grey = np.rint(0.299 * red + 0.587 * green + 0.114 * blue)
        images = grey.reshape(-1, 18, 2, 32, 2).mean(axis=(2, 4), dtype=np.float32)
    return (np.rint(images) / np.float32(255))[..., None]


def plain(form: str, path: Path, target: Path) -> int:
    """A script with pandas and NumPy, block after block in one thread."""
    import pandas as pd

    target.mkdir()
    if form == "csv":
        tables = pd.read_csv(path, header=None, chunksize=CSV_BLOCK)
        return sum(_whole_part(part, target / f"{i}.npz") for i, part in enumerate(tables))
    x, labels = np.load(path, mmap_mode="r"), np.load(path.with_suffix(".labels.npy"))
    return sum(
        _whole_chunk(x[i : i + NPY_BLOCK], labels[i : i + NPY_BLOCK], target / f"{i}.npz")
        for i in range(0, len(x), NPY_BLOCK)
    )


def dask_alone(form: str, path: Path, target: Path) -> int:
    """Dask's own collections with as many threads: dataframe blocks of 4 MiB, or array chunks."""
    import dask
    import dask.array as da
    import dask.dataframe as dd

    target.mkdir()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        if form == "csv":
            names = [str(i) for i in range(785)]
            frame = dd.read_csv(str(path), header=None, names=names, blocksize=4 << 20, dtype="int64")
            chunks = [dask.delayed(_whole_part)(part, target / f"{i}.npz") for i, part in enumerate(frame.to_delayed())]
        else:
            mapped = da.from_array(np.load(path, mmap_mode="r"), chunks=(NPY_BLOCK, *COLOUR))
            labels = np.load(path.with_suffix(".labels.npy"))
            chunks = [
                dask.delayed(_whole_chunk)(part, labels[NPY_BLOCK * i : NPY_BLOCK * (i + 1)], target / f"{i}.npz")
                for i, part in enumerate(mapped.to_delayed().ravel())
            ]
        return int(sum(dask.compute(*chunks)))


def _whole_part(part: Any, path: Path) -> int:
    np.savez(path, x=transformed("csv", checked(part.iloc[:, :-1].to_numpy())), labels=part.iloc[:, -1].to_numpy())
    return len(part)


def _whole_chunk(part: NDArray[np.uint8], labels: NDArray[Any], path: Path) -> int:
    np.savez(path, x=transformed("npy", checked(part)), labels=labels)
    return len(part)


def agree(form: str, path: Path, folder: Path) -> None:
    """Ours and the script's values are one another's, to the rounding of grey and of halves."""
    ours(form, path, folder / "ours" / "x.arrow", THREADS)
    plain(form, path, folder / f"plain-{form}")
    ids, x, labels, _ = spool.Spool(folder / "ours" / "x.arrow").read(0, 2000)
    with np.load(folder / f"plain-{form}" / "0.npz") as file:
        count = len(file["x"])
        assert np.abs(x[:count] - file["x"]).max() <= 2.01 / 255
        assert labels.to_pylist()[:count] == [str(label) for label in file["labels"]]
    assert len(ids) == 2000


def measure() -> dict[str, float]:
    """Ratios of throughput, above 1 where ours is faster: `preprocess_over_numpy`, the geometric mean of both files, and its parts."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form, path in write_files(folder).items():
            agree(form, path, folder)
            ways: dict[str, Callable[[Path], int]] = {
                "ours": lambda target, form=form, path=path: ours(form, path, target / "x" / "x.arrow", THREADS),
                "one_thread": lambda target, form=form, path=path: ours(form, path, target / "x" / "x.arrow", 1),
                "numpy": lambda target, form=form, path=path: plain(form, path, target / "x"),
                "dask": lambda target, form=form, path=path: dask_alone(form, path, target / "x"),
            }
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(TURNS):
                for way, call in ways.items():
                    with tempfile.TemporaryDirectory(dir=folder) as target:
                        begun = time.perf_counter()
                        rows = call(Path(target))
                        if turn:  # the first warms imports and the page cache
                            seconds[way].append(time.perf_counter() - begun)
                        assert rows == (CSV_ROWS if form == "csv" else NPY_ROWS)
            mine = seconds["ours"]
            found[f"preprocess_{form}_mib_per_second"] = path.stat().st_size / 2**20 / statistics.median(mine)
            for way in ("numpy", "dask", "one_thread"):
                ratios = [theirs / our for theirs, our in zip(seconds[way], mine, strict=True)]
                found[f"preprocess_{form}_over_{way}"] = statistics.median(ratios)
    for way in ("numpy", "dask"):
        found[f"preprocess_over_{way}"] = statistics.geometric_mean(
            [found[f"preprocess_{form}_over_{way}"] for form in ("csv", "npy")]
        )
    return found


def main() -> None:
    """Print what was measured."""
    for name, value in measure().items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
