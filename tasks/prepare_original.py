"""Find the model that is to be compressed: one that the catalog trains, or one that somebody else made."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadInput, CatalogError, ModelRefused
from data_catalog.nouns import CompressionJob, Dataset, Gate, Model, VariantCard
from infra import examples, gate, keys, model_registry, originals, self_test, shards, sources, storage
from infra.recipes.train_teacher import saved_model

KERAS = "model.keras"


def prepare_original(
    model: Model | str,
    card: VariantCard | None,
    dataset: Dataset,
    bounds: Gate,
    work: Path,
    bucket: str,
    name: str = "",
    classes: tuple[str, ...] = (),
) -> CompressionJob:
    """All that the trials need to know; a model from elsewhere is checked, measured and published as a cloud variant.

    Args:
        model: of the catalog; or a path, URL, `package://` or `store://` address of a Keras file or SavedModel.
        card: of the cloud variant, for a model of the catalog.
        dataset: with the splits `train`, `calibration` and `validation`.
        bounds: how far a variant may lie below the original.
        work: the run's own folder on this machine.
        bucket: of the store.
        name: of a model from elsewhere; empty: from its file.
        classes: labels in the order of its outputs; none: the labels that occur, sorted.

    Raises:
        BadInput, CatalogError: it is no model, or the dataset lacks a split.
        ModelRefused: it cannot be loaded, does not fit the records, or knows nothing of them.
        StoreError: the store cannot be read or written.
    """
    for split in ("train", "calibration", "validation"):
        if split not in dataset.splits:
            raise CatalogError(f"{dataset.name} has no split {split!r}, which compression needs; add it to `splits`")
    store = storage.open_store(bucket)
    if isinstance(model, Model):
        if card is None:
            raise BadInput(f"model {model.name} has no cloud variant to be compressed")
        key = keys.variant(card.model, card.version, card.name, KERAS)
        return CompressionJob(
            bucket=bucket, model=model.name, version=card.version, dataset=dataset, classes=model.classes,
            seed=model.seed, gate=bounds, original=card, keras=key if store.exists(key) else "",
        )  # fmt: skip
    return _imported(model, dataset, bounds, work, store, name, classes)


def _imported(
    uri: str, dataset: Dataset, bounds: Gate, work: Path, store: storage.Store, name: str, classes: tuple[str, ...]
) -> CompressionJob:
    begun = time.time()
    called = name or originals.suggested_name(uri)
    path = originals.fetch(uri, store.bucket, work)
    classes = classes or examples.labels(dataset, work)
    rows = examples.load(called, classes, dataset, work)
    x = rows["train"].x
    net = originals.adapted(originals.read(path, work), x, len(classes), uri)
    kept = originals.keras_file(net, work)
    packed = saved_model(net, x.dtype.name)
    content = [
        sources.content_digest(dataset, source, sources.local_files(dataset, source, work))
        for source in dataset.sources
    ]
    preprocessing = sources.preprocessing_digest(dataset, training=True)
    version = keys.digest_of("imported", _digest(path), content, preprocessing, classes)[:16]
    card = model_registry.find_card(store, called, version, "cloud")
    if card is None:
        measured, logits, predict = gate.measure(packed, "tensorflow", rows, None)
        labels = rows["validation"].y
        if faults := gate.faults(logits["validation"], labels, classes):
            raise ModelRefused(f"{uri}: {faults[0]}")
        originals.check_accuracy(float(measured["accuracy"]), labels, uri)
        card = VariantCard(
            model=called, version=version, tier="cloud", recipe="imported", key="", classes=classes,
            made_seconds=time.time() - begun, preprocessing=sources.preprocessing_digest(dataset),
            training_digest=version, **measured,
        )  # fmt: skip
        if kept:
            store.put(keys.variant(called, version, "cloud", KERAS), kept)
        answers = {
            split: model_registry.answer_table(rows[split].ids, rows[split].y, said, card.temperature)
            for split, said in logits.items()
        }
        golden = self_test.choose(rows["validation"].x, predict, restricted=dataset.sensitivity == "restricted")
        card = model_registry.publish(store, card, packed, golden, answers, "saved_model.tar")
    key = keys.variant(called, version, "cloud", KERAS)
    return CompressionJob(
        bucket=store.bucket, model=called, version=version, dataset=dataset, classes=classes, seed=0, gate=bounds,
        original=card, keras=key if store.exists(key) else "",
    )  # fmt: skip


def _digest(path: Path) -> str:
    """Of a file, or of all files in a folder with their names."""
    if path.is_file():
        return storage.file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [(file.relative_to(path).as_posix(), storage.file_digest(file)) for file in files]
    return shards.digest(repr(parts).encode())


prepare_original_task = task(name="prepare original", cache_policy=NO_CACHE)(prepare_original)
