"""Federated training against training on all of it in one place: accuracy on the default data's held-out rows.

The training split of the default data is spread over four sites with skewed labels, in two ways: each site has five of
the ten classes, and shares of each class drawn from a Dirichlet distribution with parameter 0.5 (H. Hsu, H. Qi, M.
Brown, Measuring the Effects of Non-Identical Data Distribution, 2019). The net is the float32 net of the default
model's edge variant, from fresh weights, with a real store. In rounds 2 and 3 one site gives no answer, and in round 4
another sends NaN. The rival is the recipes' own training of the same net on all rows, with as many epochs as a site
sees in all. Both are judged on the validation and the test split, which trained neither. The metric with the target is
that of the worse of the two ways.

    python -m benchmarks.federation
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._results import Target, commit, write
from benchmarks._store import local_store
from data_catalog.catalog import Catalog
from data_catalog.federation import LocalTraining, SiteUpdate
from data_catalog.nouns import Dataset
from infra import federation, keys, local_training, shards, sources, weights
from infra.pipeline import in_time
from infra.recipes import _training, import_tensorflow
from infra.storage import open_store
from tasks.average_updates import average_updates
from tasks.begin_federation import begin_federation
from tasks.train_at_site import train_at_site

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_catalog.federation import Federation, Round
    from data_catalog.nouns import Model

SITES = ("edge-1", "edge-2", "edge-3", "edge-4")
FIVE = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (0, 2, 4, 6, 8), (1, 3, 5, 7, 9))
ROUNDS = 40
LOCAL = LocalTraining(epochs=2, batch=16, learning_rate=0.008)
DEAD, BROKEN = {("edge-2", 2), ("edge-2", 3)}, ("edge-3", 4)
WAIT_SECONDS, HANGS_SECONDS = 20.0, 30.0  # a round takes a few
CENTRAL = {"batch": 64, "learning_rate": 0.004}  # as the default model's edge variant
SEEDS = {"five_classes": 1, "dirichlet": 2}


def digits(folder: Path) -> dict[str, tuple[NDArray[Any], NDArray[np.int64]]]:
    """The default data by split: records and labels."""
    dataset = Catalog().dataset("mnist-5k")
    parts: dict[str, list[tuple[Any, Any]]] = {split: [] for split in dataset.splits}
    for source in dataset.sources:
        for records in sources.read_records(dataset, source, sources.local_files(dataset, source, folder)[0]):
            y = np.array([int(label) for label in records.labels.to_pylist()], np.int64)
            for i, split in enumerate(dataset.splits):
                parts[split].append((records.x[records.splits == i], y[records.splits == i]))
    return {
        split: (np.concatenate([x for x, _ in blocks]), np.concatenate([y for _, y in blocks]))
        for split, blocks in parts.items()
    }


def spread(way: str, y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The site of each row, by number."""
    random = np.random.default_rng(seed)
    site = np.zeros(len(y), np.int64)
    for c in range(10):
        rows = random.permutation(np.flatnonzero(y == c))
        if way == "five_classes":
            owners = [number for number, classes in enumerate(FIVE) if c in classes]
            parts = np.array_split(rows, len(owners))
        else:
            owners = list(range(len(SITES)))
            shares = np.cumsum(random.dirichlet([0.5] * len(SITES)))[:-1]
            parts = np.split(rows, (shares * len(rows)).astype(int))
        for owner, part in zip(owners, parts, strict=True):
            site[part] = owner
    return site


def write_dataset(folder: Path, way: str, x: NDArray[Any], y: NDArray[np.int64], seed: int) -> Dataset:
    """A dataset with a file a site, all of it for training."""
    site = spread(way, y, seed)
    for number, name in enumerate(SITES):
        np.savez(folder / f"{way}-{name}.npz", x=x[site == number], y=y[site == number])
    return Dataset.model_validate({
        "name": way.replace("_", "-"), "description": "", "license": "", "format": "npz", "splits": {"train": 1.0},
        "sources": [{"site": name, "uri": str(folder / f"{way}-{name}.npz")} for name in SITES],
        "record": {"shape": list(x.shape[1:]), "dtype": "uint8", "low": 0, "high": 255, "label": "y"},
    })  # fmt: skip


def answer(
    plan: Federation, before: Round, model: Model, dataset: Dataset, work: Path, bucket: str, site: str
) -> SiteUpdate:
    """A site's part of a round: it trains, gives no answer, or sends NaN."""
    if (site, before.number + 1) in DEAD:
        time.sleep(HANGS_SECONDS)
        raise TimeoutError
    update = train_at_site(plan, before, site, model, dataset, work, work / "home", bucket)
    if (site, before.number + 1) != BROKEN:
        return update
    store = open_store(bucket)
    broken = weights.unpack(store.get(update.key), update.key)
    broken[0][...] = np.nan
    data = weights.pack(broken)
    key = keys.backup(site, model.name, plan.federation_id, before.number + 1, "broken.npz")
    store.put(key, data)
    return update.model_copy(update={"key": key, "digest": shards.digest(data)})


def federated(model: Model, dataset: Dataset, work: Path, bucket: str) -> tuple[list[NDArray[np.float32]], list[Round]]:
    """The global weights after all rounds, and the rounds."""
    cards: Any = {"edge": SimpleNamespace(shape=dataset.record.shape)}
    plan = begin_federation(model, dataset, SITES, ROUNDS, "mean", LOCAL, "fresh", 0, cards, bucket)
    store = open_store(bucket)
    done = federation.rounds_of(store, plan)
    while len(done) <= plan.rounds:
        learn = partial(answer, plan, done[-1], model, dataset, work, bucket)
        answers = in_time(learn, plan.sites, WAIT_SECONDS)
        done.append(average_updates(plan, done[-1], dict(zip(plan.sites, answers, strict=True)), work / "home", bucket))
    return federation.read_weights(store, done[-1].weights, done[-1].digest), done[1:]


def central(model: Model, x: NDArray[Any], y: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """The weights of the same net, trained on all of it in one place."""
    tf = import_tensorflow()
    net = local_training.network(model, x.shape[1:])
    net.set_weights(local_training.fresh_weights(model, x.shape[1:]))
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = model.variants["edge"].settings | CENTRAL | {"epochs": ROUNDS * LOCAL.epochs}
    _training.train(net, x, y, settings, model.seed, lambda _, y, logits: cross_entropy(y, logits), "central")
    return net.get_weights()  # type: ignore[no-any-return]


def accuracy(model: Model, trained: list[NDArray[np.float32]], x: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Share of rows that the net is right on."""
    tf = import_tensorflow()
    net = local_training.network(model, x.shape[1:])
    net.set_weights(trained)
    return float((net(tf.constant(x, tf.float32), training=False).numpy().argmax(axis=1) == y).mean())


def main() -> None:
    """Run both ways, print, and write the record."""
    measured = commit()
    metrics: dict[str, float | None] = {}
    lines = []
    with tempfile.TemporaryDirectory() as name, local_store(Path(name) / "home"):
        folder, bucket = Path(name), open_store().bucket
        data = digits(folder)
        x, y = (np.concatenate([data[split][i] for split in ("validation", "test")]) for i in (0, 1))
        for way, seed in SEEDS.items():
            model = Catalog().model("digits").model_copy(update={"seed": seed})
            dataset = write_dataset(folder, way, *data["train"], seed)
            work = folder / way
            work.mkdir()
            trained, done = federated(model, dataset, work, bucket)
            here = accuracy(model, trained, x, y)
            there = accuracy(model, central(model, *data["train"]), x, y)
            metrics |= {
                f"{way}_federated_accuracy": here, f"{way}_central_accuracy": there,
                f"{way}_minus_central_points": 100 * (here - there),
            }  # fmt: skip
            left_out = [f"{site} in round {r.number}: {why}" for r in done for site, why in r.left_out.items()]
            rows = {update.site: update.rows for r in done for update in r.updates}
            lines.append(
                f"{way.replace('_', ' ')}: rows {', '.join(str(rows[site]) for site in SITES)}; left out"
                f" {'; '.join(left_out)}."
            )
            lines.append("")
            print(way, metrics[f"{way}_minus_central_points"], left_out)
    metrics["federated_minus_central_points"] = min(float(metrics[f"{way}_minus_central_points"] or 0) for way in SEEDS)
    metrics |= {"rounds": float(ROUNDS), "sites": float(len(SITES)), "held_out_rows": float(len(y))}
    lines += [
        "Training at four sites with skewed labels against training of the same net on all rows in one place, for as many",
        f"epochs ({ROUNDS * LOCAL.epochs}); the worse of the two ways of spreading counts. A point is {len(y) / 100:.0f} rows.",
    ]
    write("federation", metrics, {"federated_minus_central_points": Target(-1.0)}, lines, measured)


if __name__ == "__main__":
    main()
