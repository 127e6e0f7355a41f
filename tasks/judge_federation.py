"""Judge what a federation made as every variant is, publish or refuse it, and write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import ModelRefused
from data_catalog.federation import Federation, FederationReport, Round
from data_catalog.nouns import AccessDecision, Dataset, Model, Tier, VariantCard
from infra import examples as labelled
from infra import federation as rounds
from infra import gate, keys, local_training, model_registry, self_test, sources, storage
from infra.recipes import Examples
from infra.runtimes import RUNTIMES


def judge_federation(
    federation: Federation,
    done: Sequence[Round],
    model: Model,
    school: Dataset,
    cards: Mapping[Tier, VariantCard],
    work: Path,
    bucket: str,
    begun: float,
    access: tuple[AccessDecision, ...] = (),
) -> FederationReport:
    """The federation's report, which is in the store; with it the federation is finished.

    The last global weights are quantised to int8 with the calibration split of the model's own dataset, and judged on
    its validation split against the cloud variant: where models are trained, not at the sites.

    Args:
        federation: whose result it is.
        done: its rounds, at least one.
        model: says the gate's bounds.
        school: the model's own dataset.
        cards: the published variants of the version that this one joins.
        work: the run's own folder on this machine.
        bucket: of the store.
        begun: when this run began (epoch).
        access: what lets it use the dataset.

    Raises:
        CatalogError, BadRecord: the model's own dataset is not what the catalog says.
        Conflict: the version has another variant of that name.
        CorruptObject, StoreError: as the store says.
    """
    store = storage.open_store(bucket)
    held_out = labelled.load(model.name, model.classes, school, work / "judged")
    weights = rounds.read_weights(store, done[-1].weights, done[-1].digest)
    variant = local_training.edge_variant(model, weights, federation.shape, held_out["calibration"].x)
    card, reason = None, ""
    try:
        card, answers, golden = _measured(
            federation, done[-1].digest, variant, model, school, cards, held_out, store, begun
        )
        gate.refuse_if_worse(card, cards["cloud"], model.gate)
        card = model_registry.publish(store, card, variant, golden, answers)
    except ModelRefused as error:
        reason = str(error)
    report = FederationReport(
        federation=federation, rounds=tuple(done), outcome="refused" if reason else "published", reason=reason, card=card,
        seconds=time.time() - begun, key=keys.federation(model.name, federation.federation_id, rounds.REPORT),
        access=access,
    )  # fmt: skip
    rounds.finish(store, report)
    return report


def _measured(
    federation: Federation,
    trained: str,
    variant: bytes,
    model: Model,
    school: Dataset,
    cards: Mapping[Tier, VariantCard],
    held_out: Mapping[str, Examples],
    store: storage.Store,
    begun: float,
) -> tuple[VariantCard, dict[str, pa.Table], self_test.Golden]:
    """Card, answers to held-out rows and golden rows of the variant; ModelRefused for what no bound excuses."""
    cloud, spec = cards["cloud"], model.variants["edge"]
    validation = held_out["validation"]
    original = RUNTIMES.get(cloud.runtime).load(model_registry.read_model(store, cloud), gate.BATCH)(validation.x)
    fields, logits, predict = gate.measure(variant, spec.runtime, held_out, original)
    if faults := gate.faults(logits["validation"], validation.y, model.classes):
        raise ModelRefused(faults[0])
    card = VariantCard(
        model=model.name, version=cloud.version, tier="edge", name=f"federated-{federation.federation_id}",
        recipe="federated", key="", classes=model.classes, made_seconds=time.time() - begun,
        recipe_steps=({
            "step": "federate", "dataset": federation.dataset, "sites": len(federation.sites), "rounds": federation.rounds,
            "average": federation.average, "epochs": federation.local.epochs,
        },),
        preprocessing=sources.preprocessing_digest(school), teacher_digest=cloud.digest, made_from=trained, **fields,
    )  # fmt: skip
    answers = {
        split: model_registry.answer_table(held_out[split].ids, held_out[split].y, of_split, card.temperature)
        for split, of_split in logits.items()
    }
    golden = self_test.choose(validation.x, predict, restricted=school.sensitivity == "restricted")
    return card, answers, golden


judge_federation_task = task(name="judge", cache_policy=NO_CACHE)(judge_federation)
