"""Train a model's two variants on first use, judge them, and publish them with their cards.

The version is the digest of the training data, the code of the recipes and the settings: anything else
unchanged, nothing is trained again. Training, calibration, validation and test rows never overlap, because
a record's split is a function of its content.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import CatalogError, ModelRefused, PlanError
from data_catalog.nouns import Dataset, Model, Pointed, Site, Tier, VariantCard
from infra import gate, keys, local_training, model_registry, originals, rollout, self_test, shards, sources, storage
from infra.examples import load
from infra.progress import publish
from infra.recipes import RECIPES, Examples, Made, TrainingData, source_files
from infra.runtimes import RUNTIMES
from infra.security import policy

LAYOUT = 2  # of a version in the store; a version of another layout is another version
FORMS_DIFFER = 1e-3  # of the largest logit: two runtimes add the same numbers in other orders
KERAS = "model.keras"


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


def train_model(
    model: Model, dataset: Dataset, work: Path, bucket: str, sites: Sequence[Site] = ()
) -> dict[Tier, VariantCard]:
    """The tiers' own cards of the version that the sites answer with; trains and publishes it if the store has it not.

    Args:
        model: of the catalog.
        dataset: that it is trained on.
        work: a folder of the run's own.
        bucket: of the store.
        sites: that take part. Where a variant was pushed to a group of them, its version is meant, and nothing is
            trained; else what the catalog describes.

    Raises:
        PlanError: variants of several versions were pushed to them, or of one that is not whole.
        ModelRefused: the edge variant failed its gate; nothing is published.
        StoreError: the store cannot be listed, read or written.
        CatalogError, BadRecord: the training data is not what the catalog says.
        AccessDenied: it has to be trained, and the policy does not let this user do that.
    """
    store = storage.open_store(bucket)
    if told := rollout.pinned(store, model.name, sites):
        return _told(store, model, dataset, told)
    version = model_version(model, dataset, work)
    if cards := _published(store, model, version):
        gate.refuse_if_worse(cards["edge"], cards["cloud"], model.gate)
        return cards
    policy.authorise("train", dataset)
    store.check()  # before minutes of training whose model could not be stored
    examples = load(model.name, model.classes, dataset, work)
    data = TrainingData(examples["train"], examples["calibration"], len(model.classes))
    validation = examples["validation"]
    made: dict[Tier, Made] = {}
    logits: dict[Tier, dict[str, NDArray[np.float32]]] = {}
    golden: dict[Tier, self_test.Golden] = {}
    twins: dict[tuple[Tier, str], tuple[VariantCard, dict[str, NDArray[np.float32]], self_test.Golden]] = {}
    cards = {}
    tiers: tuple[Tier, ...] = ("cloud", "edge")
    for tier in tiers:
        spec = model.variants[tier]
        begun = time.time()
        recipe = RECIPES.get(spec.recipe, f"model {model.name}, key `variants.{tier}.recipe`")
        RUNTIMES.get(spec.runtime, f"model {model.name}, key `variants.{tier}.runtime`")
        made[tier] = recipe.make(data, spec.settings, model.seed, made.get("cloud"))
        cloud = logits["cloud"]["validation"] if made.get("cloud") is not made[tier] else None
        measured, logits[tier], predict = gate.measure(made[tier].model, spec.runtime, examples, cloud)
        restricted = dataset.sensitivity == "restricted"
        golden[tier] = self_test.choose(validation.x, predict, restricted=restricted)
        cards[tier] = VariantCard(
            model=model.name, version=version, tier=tier, recipe=spec.recipe, key="", classes=model.classes,
            made_seconds=time.time() - begun, preprocessing=sources.preprocessing_digest(dataset),
            training_digest=version, teacher_digest=shards.digest(made["cloud"].model), **measured,
        )  # fmt: skip
        if faults := gate.faults(logits[tier]["validation"], validation.y, model.classes):
            raise ModelRefused(f"the {tier} variant of {model.name} is refused: {faults[0]}")
        for name, (_, form) in made[tier].others.items():
            measured, answered, predict = gate.measure(form, name, examples, logits["cloud"]["validation"])
            refuse_another_net(name, answered["validation"], spec.runtime, logits[tier]["validation"])
            rows = self_test.choose(validation.x, predict, restricted=restricted)
            changes = {"name": f"{tier}-{name}", "same_net_as": cards[tier].digest, **measured}
            twins[tier, name] = cards[tier].model_copy(update=changes), answered, rows
    gate.refuse_if_worse(cards["edge"], cards["cloud"], model.gate)
    if there := _published(store, model, version):  # by another run, meanwhile
        return there
    local_training.put_weights(store, model.name, version, made["edge"].keras)
    model_registry.withdraw(store, model.name, version)
    if original := originals.keras_file(made["cloud"].keras, work):
        store.put(keys.variant(model.name, version, "cloud", KERAS), original)
    for tier in ("edge", "cloud"):
        for name, (file, form) in made[tier].others.items():
            twin, answered, rows = twins[tier, name]
            model_registry.publish(store, twin, form, rows, _tables(examples, answered, twin), file)
        cards[tier] = model_registry.publish(
            store,
            cards[tier],
            made[tier].model,
            golden[tier],
            _tables(examples, logits[tier], cards[tier]),
            made[tier].file,
        )
    publish("train", model.name, 1, 1, "models")
    return cards


def refuse_another_net(name: str, logits: NDArray[np.float32], own: str, original: NDArray[np.float32]) -> None:
    """Two forms of one net must agree: compares (n, classes) logits for runtime `name` with those for `own`.

    Raises:
        ModelRefused: they do not; names by how much.
    """
    most = float(np.abs(logits - original).max())
    if not most <= FORMS_DIFFER * float(np.abs(original).max()):
        raise ModelRefused(
            f"as a model for {name} the net gives other logits (by up to {most:.3g}) than as one for {own}; this"
            " converter changes the net, so leave that form out of the recipe"
        )


def _tables(
    examples: Mapping[str, Examples], logits: Mapping[str, NDArray[np.float32]], card: VariantCard
) -> dict[str, pa.Table]:
    """By split: a variant's answers to held-out rows."""
    return {
        split: model_registry.answer_table(examples[split].ids, examples[split].y, of_split, card.temperature)
        for split, of_split in logits.items()
    }


def _told(store: storage.Store, model: Model, dataset: Dataset, told: Mapping[str, Pointed]) -> dict[Tier, VariantCard]:
    """The tiers' own cards of the version that was pushed; for a tier that has none of its own, what was pushed to it."""
    group, entry = next(iter(told.items()))
    inside = model_registry.cards(store, model.name, entry.version)
    cards = {card.tier: card for pushed in told.values() if (card := inside.get(pushed.variant))}
    cards |= {card.tier: card for name, card in inside.items() if name == card.tier}
    remedy = f"push another, or `cloudedge models rollback {model.name} --group {group}`"
    if set(cards) != {"edge", "cloud"}:
        raise PlanError(
            f"version {entry.version} of model {model.name}, which was pushed to group {group}, has not a variant for"
            f" each tier in the store; {remedy}"
        )
    if cards["edge"].preprocessing != sources.preprocessing_digest(dataset):
        raise PlanError(
            f"version {entry.version} of model {model.name}, which was pushed to group {group}, was trained on records"
            f" that went through other transforms than those of {dataset.name} today; {remedy}"
        )
    return cards


def _published(store: storage.Store, model: Model, version: str) -> dict[Tier, VariantCard]:
    """The cards that training made; none if the store lacks one, or a file of one, or they are of two trainings."""
    cards: dict[Tier, VariantCard] = {}
    for tier in ("cloud", "edge"):
        card = model_registry.find_card(store, model.name, version, tier)
        if not card or not store.exists(card.key):
            return {}
        cards[tier] = card
    return cards if cards["edge"].teacher_digest == cards["cloud"].digest else {}


train_model_task = task(name="train model", task_run_name="train {model.name}", cache_policy=NO_CACHE)(train_model)
