"""Train a model's two variants on first use, judge them, and publish them with their cards.

The version is the digest of the training data, the code of the recipes and the settings: anything else
unchanged, nothing is trained again. Training, calibration, validation and test rows never overlap, because
a record's split is a function of its content.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadRecord, CatalogError, CorruptObject, ModelRefused
from data_catalog.nouns import Dataset, Model, Tier, VariantCard
from infra import cascade, keys, ledger, shards, sources, storage
from infra.progress import publish
from infra.recipes import RECIPES, Examples, Made, TrainingData, source_files
from infra.runtimes import RUNTIMES

JUDGED = ("validation", "test")  # the splits whose answers are kept
JUDGE_BATCH = 64


def model_version(model: Model, dataset: Dataset, work: Path) -> str:
    """The name of what training would make: 16 hexadecimal digits of a SHA-256.

    Raises:
        CatalogError: the dataset lacks a split that training needs, or a source cannot be found.
    """
    for split in ("train", "calibration", "validation"):
        if split not in dataset.splits:
            raise CatalogError(
                f"model {model.name} is trained on {dataset.name}, whose `splits` has no {split!r}; add it"
            )
    content = [
        sources.content_digest(dataset, source, sources.local_files(dataset, source, work))
        for source in dataset.sources
    ]
    code = [storage.file_digest(path) for path in source_files()]
    settings = model.model_dump(mode="json", exclude={"description", "gate"})
    preprocessing = sources.preprocessing_digest(dataset, training=True)
    return keys.digest_of("model", content, preprocessing, settings, code)[:16]


def train_model(model: Model, dataset: Dataset, work: Path, bucket: str) -> dict[Tier, VariantCard]:
    """The cards of the model's current version; trains and publishes it if the store does not have it.

    Raises:
        ModelRefused: the edge variant failed its gate; nothing is published.
        StoreError: the store cannot be listed, read or written.
        CatalogError, BadRecord: the training data is not what the catalog says.
    """
    store = storage.open_store(bucket)
    version = model_version(model, dataset, work)
    if cards := _published(store, model, dataset, version):
        refuse_if_worse(model, cards)
        return cards
    store.check()  # before minutes of training whose model could not be stored
    examples = _load_examples(model, dataset, work)
    data = TrainingData(examples["train"], examples["calibration"], len(model.classes))
    made: dict[Tier, Made] = {}
    logits: dict[Tier, dict[str, NDArray[np.float32]]] = {}
    cards = {}
    tiers: tuple[Tier, ...] = ("cloud", "edge")
    for tier in tiers:
        spec = model.variants[tier]
        begun = time.time()
        recipe = RECIPES.get(spec.recipe, f"model {model.name}, key `variants.{tier}.recipe`")
        made[tier] = recipe.make(data, spec.settings, model.seed, made.get("cloud"))
        predict = RUNTIMES.get(spec.runtime, f"model {model.name}, key `variants.{tier}.runtime`").load(
            made[tier].model, JUDGE_BATCH
        )
        logits[tier] = {split: predict(examples[split].x) for split in ("calibration", *JUDGED) if split in examples}
        cards[tier] = _card(model, version, tier, made[tier], logits, examples, time.time() - begun)
    refuse_if_worse(model, cards)
    for split in JUDGED:
        if split in examples:
            store.put(keys.answers(model.name, version, split), _answers(examples[split], cards, logits, split))
    for tier in ("edge", "cloud"):
        store.put(cards[tier].key, made[tier].model)
        store.put(keys.variant(model.name, version, tier, "card.json"), cards[tier].model_dump_json(indent=2).encode())
    publish("train", model.name, 1, 1, "models")
    return cards


def _published(store: storage.Store, model: Model, dataset: Dataset, version: str) -> dict[Tier, VariantCard]:
    """The version's cards; none if the store lacks one of them, a variant, or their answers."""
    tiers: tuple[Tier, ...] = ("edge", "cloud")
    card_keys = {tier: keys.variant(model.name, version, tier, "card.json") for tier in tiers}
    answers = [keys.answers(model.name, version, split) for split in JUDGED if split in dataset.splits]
    if not all(store.exists(key) for key in (*card_keys.values(), *answers)):
        return {}
    cards = {tier: _read_card(store, key) for tier, key in card_keys.items()}
    return cards if all(store.exists(card.key) for card in cards.values()) else {}


def refuse_if_worse(model: Model, cards: Mapping[Tier, VariantCard]) -> None:
    """The gate: the edge variant's accuracy stays within the model's bounds of the cloud's.

    Raises:
        ModelRefused: it lies too far below, overall or in a class; names which.
    """
    edge, cloud = cards["edge"], cards["cloud"]
    if cloud.accuracy - edge.accuracy > model.gate.max_drop:
        raise ModelRefused(
            f"the edge variant of {model.name} is right on {edge.accuracy:.2%} of the validation rows, the cloud's on"
            f" {cloud.accuracy:.2%}: more than `gate.max_drop` {model.gate.max_drop:.2%} lower; change its settings"
        )
    for name, low, high in zip(model.classes, edge.class_accuracy, cloud.class_accuracy, strict=True):
        if high - low > model.gate.max_class_drop:
            raise ModelRefused(
                f"the edge variant of {model.name} is right on {low:.2%} of class {name!r}, the cloud's on {high:.2%}:"
                f" more than `gate.max_class_drop` {model.gate.max_class_drop:.2%} lower; change its settings"
            )


def _load_examples(model: Model, dataset: Dataset, work: Path) -> dict[str, Examples]:
    """All labelled records by split."""
    number = {name: i for i, name in enumerate(model.classes)}
    names: list[str] = list(dataset.splits)
    parts: dict[str, list[tuple[Any, Any, Any]]] = {split: [] for split in names}
    for position, source in enumerate(dataset.sources):
        path = sources.local_files(dataset, source, work)[0]
        for records in sources.read_records(dataset, source, path, training=True):
            labels = records.labels.to_pylist()
            if strange := {label for label in labels if label not in number}:
                raise BadRecord(
                    f"{path}: label {sorted(map(str, strange))[0]!r} is no class of model {model.name}; correct one"
                )
            y = np.array([number[label] for label in labels], np.int64)
            ids = np.array(records.ids.to_pylist())
            for i, split in enumerate(names):
                chosen = records.splits == i
                parts[split].append((records.x[chosen], y[chosen], ids[chosen]))
        publish("load training data", model.name, position + 1, len(dataset.sources), "sources")
    examples = {}
    for split, blocks in parts.items():
        x, y, ids = (np.concatenate(column) for column in zip(*blocks, strict=True))
        examples[split] = Examples(x, y, ids)
        if not len(y):
            raise BadRecord(
                f"dataset {dataset.name} has no record in split {split!r}; give it more data or another share"
            )
    return examples


def _card(
    model: Model,
    version: str,
    tier: Tier,
    made: Made,
    logits: Mapping[Tier, Mapping[str, NDArray[np.float32]]],
    examples: Mapping[str, Examples],
    seconds: float,
) -> VariantCard:
    """Measure a variant on the validation rows, on the runtime that will execute it.

    Its temperature is fitted on the calibration rows: one that had seen the validation rows would give their
    confidences a part in the threshold that is chosen on them.
    """
    validation, calibration = examples["validation"], examples["calibration"]
    mine, labels = logits[tier]["validation"], validation.y
    right = mine.argmax(axis=1) == labels
    spec = model.variants[tier]
    return VariantCard(
        model=model.name,
        version=version,
        tier=tier,
        recipe=spec.recipe,
        runtime=spec.runtime,
        runtime_version=RUNTIMES.get(spec.runtime).version(),
        key=keys.variant(model.name, version, tier, made.file),
        digest=shards.digest(made.model),
        bytes=len(made.model),
        classes=model.classes,
        shape=validation.x.shape[1:],
        dtype=validation.x.dtype.name,
        temperature=cascade.fit_temperature(logits[tier]["calibration"], calibration.y),
        calibration_rows=len(calibration.y),
        validation_rows=len(labels),
        accuracy=float(right.mean()),
        accuracy_interval=cascade.wilson_interval(int(right.sum()), len(labels)),
        class_accuracy=tuple(
            float(right[labels == c].mean()) if (labels == c).any() else 1.0 for c in range(len(model.classes))
        ),
        agreement=float((mine.argmax(axis=1) == logits["cloud"]["validation"].argmax(axis=1)).mean()),
        made_seconds=seconds,
    )


def _answers(
    examples: Examples,
    cards: Mapping[Tier, VariantCard],
    logits: Mapping[Tier, Mapping[str, NDArray[np.float32]]],
    split: str,
) -> bytes:
    """Parquet of both variants' answers to held-out rows: what cloud-only and edge-only would have said."""
    columns: dict[str, Any] = {
        "record_id": pa.array(examples.ids, pa.string()),
        "label": pa.array(examples.y, pa.int32()),
    }
    for tier, card in cards.items():
        prediction, confidence = cascade.answer(logits[tier][split], card.temperature)
        columns |= {tier: pa.array(prediction, pa.int32()), f"{tier}_confidence": pa.array(confidence, pa.float32())}
    return ledger.parquet(pa.table(columns))


def _read_card(store: storage.Store, key: str) -> VariantCard:
    try:
        return VariantCard.model_validate_json(store.get(key))
    except ValueError as error:
        raise CorruptObject(f"{key} is not a variant's card; delete that object and run again") from error


train_model_task = task(name="train model", task_run_name="train {model.name}", cache_policy=NO_CACHE)(train_model)
