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
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadRecord, CatalogError, ModelRefused
from data_catalog.nouns import Dataset, Model, Tier, VariantCard
from infra import cascade, keys, model_registry, self_test, shards, sources, storage
from infra.progress import publish
from infra.recipes import RECIPES, Examples, Made, TrainingData, source_files
from infra.runtimes import RUNTIMES, Predictor

LAYOUT = 2  # of a version in the store; a version of another layout is another version
JUDGED = ("validation", "test")  # the splits whose answers are kept
JUDGE_BATCH = 64
FORMS_DIFFER = 1e-3  # of the largest logit: two runtimes add the same numbers in other orders


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
    return keys.digest_of("model", LAYOUT, content, preprocessing, settings, code)[:16]


def train_model(model: Model, dataset: Dataset, work: Path, bucket: str) -> dict[Tier, VariantCard]:
    """The cards of the model's current version; trains and publishes it if the store does not have it.

    Raises:
        ModelRefused: the edge variant failed its gate; nothing is published.
        StoreError: the store cannot be listed, read or written.
        CatalogError, BadRecord: the training data is not what the catalog says.
    """
    store = storage.open_store(bucket)
    version = model_version(model, dataset, work)
    if cards := _published(store, model, version):
        refuse_if_worse(model, cards)
        return cards
    store.check()  # before minutes of training whose model could not be stored
    examples = _load_examples(model, dataset, work)
    data = TrainingData(examples["train"], examples["calibration"], len(model.classes))
    made: dict[Tier, Made] = {}
    logits: dict[Tier, dict[str, NDArray[np.float32]]] = {}
    golden: dict[tuple[Tier, str], self_test.Golden] = {}
    cards = {}
    tiers: tuple[Tier, ...] = ("cloud", "edge")
    for tier in tiers:
        spec = model.variants[tier]
        begun = time.time()
        recipe = RECIPES.get(spec.recipe, f"model {model.name}, key `variants.{tier}.recipe`")
        made[tier] = recipe.make(data, spec.settings, model.seed, made.get("cloud"))
        RUNTIMES.get(spec.runtime, f"model {model.name}, key `variants.{tier}.runtime`")
        forms = {spec.runtime: made[tier].model} | {name: other for name, (_, other) in made[tier].others.items()}
        predict = {name: RUNTIMES.get(name).load(form, JUDGE_BATCH) for name, form in forms.items()}
        logits[tier] = judge(predict, {split: examples[split].x for split in JUDGED if split in examples})
        restricted = dataset.sensitivity == "restricted"
        golden |= {
            (tier, name): self_test.choose(examples["validation"].x, form, restricted=restricted)
            for name, form in predict.items()
        }
        cards[tier] = _card(
            model, dataset, version, tier, made[tier], logits, examples["validation"], time.time() - begun
        )
    refuse_if_worse(model, cards)
    if there := _published(store, model, version):  # by another run, meanwhile
        return there
    model_registry.withdraw(store, model.name, version)
    for tier in ("edge", "cloud"):
        card = cards[tier].model_copy(update={"teacher_digest": shards.digest(made["cloud"].model)})
        answers = {
            split: model_registry.answer_table(examples[split].ids, examples[split].y, of_split, card.temperature)
            for split, of_split in logits[tier].items()
        }
        for name, (file, form) in made[tier].others.items():
            twin = card.model_copy(
                update={
                    "name": f"{tier}-{name}",
                    "runtime": name,
                    "runtime_version": RUNTIMES.get(name).version(),
                    "same_net_as": card.digest,
                }
            )
            model_registry.publish(store, twin, form, golden[tier, name], answers, file)
        cards[tier] = model_registry.publish(
            store, card, made[tier].model, golden[tier, card.runtime], answers, made[tier].file
        )
    publish("train", model.name, 1, 1, "models")
    return cards


def judge(predict: Mapping[str, Predictor], x: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """Logits of held-out rows; of the forms of one net the one answers that was the fastest on the validation rows.

    Args:
        predict: by runtime; the first is the variant's own.
        x: by split, records; `validation` is among them.

    Raises:
        ModelRefused: the forms do not agree on the validation rows; names how far they differ.
    """
    seconds, found = {}, {}
    for name, form in predict.items():
        form(x["validation"][:JUDGE_BATCH])  # the first call may trace
        begun = time.perf_counter()
        found[name] = form(x["validation"])
        seconds[name] = time.perf_counter() - begun
    own = found[next(iter(predict))]
    for name, logits in found.items():
        most = float(np.abs(logits - own).max())
        if not most <= FORMS_DIFFER * float(np.abs(own).max()):
            raise ModelRefused(
                f"as a model for {name} the net gives other logits (by up to {most:.3g}) than as one for"
                f" {next(iter(predict))}; this converter changes the net, so leave that form out of the recipe"
            )
    fastest = predict[min(seconds, key=lambda name: seconds[name])]
    return {split: own if split == "validation" else fastest(rows) for split, rows in x.items()}


def _published(store: storage.Store, model: Model, version: str) -> dict[Tier, VariantCard]:
    """The cards that training made; none if the store lacks one, or a file of one, or they are of two trainings."""
    cards: dict[Tier, VariantCard] = {}
    for tier in ("cloud", "edge"):
        card = model_registry.find_card(store, model.name, version, tier)
        if not card or not store.exists(card.key):
            return {}
        cards[tier] = card
    return cards if cards["edge"].teacher_digest == cards["cloud"].digest else {}


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
    dataset: Dataset,
    version: str,
    tier: Tier,
    made: Made,
    logits: Mapping[Tier, Mapping[str, NDArray[np.float32]]],
    validation: Examples,
    seconds: float,
) -> VariantCard:
    """Measure a variant on the validation rows, on the runtime that will execute it."""
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
        key="",
        digest=shards.digest(made.model),
        bytes=len(made.model),
        classes=model.classes,
        shape=validation.x.shape[1:],
        dtype=validation.x.dtype.name,
        temperature=cascade.fit_temperature(mine, labels),
        validation_rows=len(labels),
        accuracy=float(right.mean()),
        accuracy_interval=cascade.wilson_interval(int(right.sum()), len(labels)),
        class_accuracy=tuple(
            float(right[labels == c].mean()) if (labels == c).any() else 1.0 for c in range(len(model.classes))
        ),
        agreement=float((mine.argmax(axis=1) == logits["cloud"]["validation"].argmax(axis=1)).mean()),
        made_seconds=seconds,
        preprocessing=sources.preprocessing_digest(dataset),
    )


train_model_task = task(name="train model", task_run_name="train {model.name}", cache_policy=NO_CACHE)(train_model)
