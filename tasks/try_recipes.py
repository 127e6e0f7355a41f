"""Try compression recipes on a model; what passes the gate is published, else recorded with its reason."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import ModelRefused
from data_catalog.nouns import Budget, CompressionJob, CompressionRecipe, Trial, VariantCard
from infra import compression, compute, gate, keys, model_registry, self_test, shards, storage
from infra.progress import publish
from infra.recipes import Examples
from infra.runtimes import RUNTIMES

RUNTIME = "litert"
MEASURED = 1  # version of what a trial's record says


def try_recipes(
    job: CompressionJob, recipes: tuple[CompressionRecipe, ...], budget: Budget, threads: int, address: str | None
) -> tuple[Trial, ...]:
    """What became of each recipe; steps and measurements that the store has are not repeated.

    Steps of one level of the recipes' tree run side by side; what they end with is measured between levels, one at a
    time, so that nothing else is timed with it.

    Args:
        job: the model and its data.
        recipes: to be tried.
        budget: of bytes, milliseconds and minutes; when the minutes are over nothing new is begun.
        threads: steps at a time in this process.
        address: of a Dask scheduler; None: threads here.

    Raises:
        UnknownName, CatalogError: a recipe is wrong; nothing was begun.
        StoreError: the store cannot be read or written.
    """
    deadline = time.time() + budget.minutes * 60
    levels, ways = compression.levels(job, recipes, deadline)
    done: dict[str, compression.Done] = {}
    trials: dict[str, Trial] = {}
    total = sum(map(len, levels))

    def note(piece: compression.Done) -> None:
        done[piece.digest] = piece
        publish("compress", job.model, len(done), total, "steps")

    for level in levels:
        open_now = [work for work in level if done.get(work.before, _FINE).status in {"made", "kept"}]
        compute.map_blocks(compression.carry_out, open_now, threads=threads, address=address, done=note)
        for recipe in recipes:
            if recipe.name not in trials and (trial := _trial(job, recipe, ways[recipe.name], done, budget)):
                trials[recipe.name] = trial
                publish("try recipes", job.model, len(trials), len(recipes), "recipes")
    return tuple(trials[recipe.name] for recipe in recipes)


_FINE = compression.Done("", "made")  # what the first steps begin with: the original


def _trial(
    job: CompressionJob,
    recipe: CompressionRecipe,
    way: list[str],
    done: Mapping[str, compression.Done],
    budget: Budget,
) -> Trial | None:
    """What is known of a recipe; None while its steps are not done."""
    known = [done[digest] for digest in way if digest in done]
    seconds = sum(piece.seconds for piece in known)
    if stopped := next((piece for piece in known if piece.status in {"failed", "untried"}), None):
        status = "failed" if stopped.status == "failed" else "untried"
        return Trial.model_validate({
            "recipe": recipe.name, "digest": way[-1], "status": status, "reason": stopped.reason, "seconds": seconds,
        })  # fmt: skip
    if way[-1] not in done:
        return None
    return _judged(job, recipe, way[-1], seconds, budget, reused=all(piece.status == "kept" for piece in known))


def _judged(
    job: CompressionJob, recipe: CompressionRecipe, digest: str, seconds: float, budget: Budget, *, reused: bool
) -> Trial:
    """The trial with its measurements and the verdict under the job's bounds; published or recorded as refused."""
    store = storage.open_store(job.bucket)
    step_key = keys.compression(job.model, job.version, "steps", digest)
    key = keys.compression(job.model, job.version, "trials", keys.digest_of("trial", MEASURED, recipe.name, digest))
    candidate = compression.unpack(store.get(step_key), step_key)
    model = candidate.model
    trial = storage.read_noun(store, key, Trial, "no record of a trial")
    if trial is None or (trial.card and trial.card.digest != shards.digest(model)):
        reused = False
        trial = _measured(job, recipe, digest, model, dict(candidate.notes), seconds)
        store.put(key, trial.model_dump_json(indent=1).encode())
    trial = trial.model_copy(update={"seconds": seconds, "reused": reused})
    card = trial.card
    if why := _refusal(job, trial):
        refused = trial.model_copy(update={"status": "refused", "reason": why})
        record = {"gate": job.gate.model_dump(), **refused.model_dump(mode="json")}
        name = f"{recipe.name}-{digest[:16]}"
        store.put(keys.compression(job.model, job.version, "refused", name), _json(record))
        return refused
    assert card
    published = _publish(job, card, model)
    over = _over(published, budget)
    return trial.model_copy(
        update={"status": "published", "card": published, "inside_budget": not over, "reason": over}
    )


def _refusal(job: CompressionJob, trial: Trial) -> str:
    """Why the variant is not published under the job's bounds; empty: it is."""
    if trial.faults or not trial.card:
        return "; ".join(trial.faults)
    try:
        gate.refuse_if_worse(trial.card, job.original, job.gate)
    except ModelRefused as error:
        return str(error)
    return ""


def _measured(
    job: CompressionJob, recipe: CompressionRecipe, digest: str, model: bytes, notes: dict[str, float], seconds: float
) -> Trial:
    """The model on the runtime that will execute it, beside the original."""
    examples, _ = compression.material(job)
    steps = tuple({"step": name, **settings} for name, settings in compression.checked(recipe))
    try:
        fields, logits, _ = gate.measure(model, RUNTIME, examples, _reference(job, examples))
    except ModelRefused as error:
        return Trial(recipe=recipe.name, digest=digest, status="measured", faults=(str(error),))
    card = VariantCard(
        model=job.model, version=job.version, tier="edge", name=recipe.name, recipe=recipe.name, recipe_steps=steps,
        key="", classes=job.classes, made_seconds=seconds, preprocessing=job.original.preprocessing,
        training_digest=job.original.training_digest, teacher_digest=job.original.digest,
        made_from=job.original.digest, sparsity=notes.get("sparsity"), **fields,
    )  # fmt: skip
    faults = gate.faults(logits["validation"], examples["validation"].y, job.classes)
    return Trial(recipe=recipe.name, digest=digest, status="measured", card=card, faults=faults)


def _reference(job: CompressionJob, examples: Mapping[str, Examples]) -> NDArray[np.float32]:
    """The original's logits on the validation rows, by the runtime that executes it."""
    if (job.model, job.original.digest) not in _references:
        model = model_registry.read_model(storage.open_store(job.bucket), job.original)
        predict = RUNTIMES.get(job.original.runtime).load(model, gate.BATCH)
        _references.clear()
        _references[job.model, job.original.digest] = predict(examples["validation"].x)
    return _references[job.model, job.original.digest]


_references: dict[tuple[str, str], NDArray[np.float32]] = {}  # of the search that this process does


def _publish(job: CompressionJob, card: VariantCard, model: bytes) -> VariantCard:
    """The variant in the registry, under its recipe's name, or that and its digest if the name is taken."""
    store = storage.open_store(job.bucket)
    there = model_registry.find_card(store, job.model, job.version, card.name)
    if there and there.digest != card.digest:
        card = card.model_copy(update={"name": f"{card.name[:54]}-{card.digest[:8]}"})
        there = model_registry.find_card(store, job.model, job.version, card.name)
    if there:
        return there
    examples, _ = compression.material(job)
    predict = RUNTIMES.get(RUNTIME).load(model, gate.BATCH)
    restricted = job.dataset.sensitivity == "restricted"
    golden = self_test.choose(examples["validation"].x, predict, restricted=restricted)
    answers: dict[str, Any] = {
        split: model_registry.answer_table(
            examples[split].ids, examples[split].y, predict(examples[split].x), card.temperature
        )
        for split in ("validation", "test")
        if split in examples
    }
    return model_registry.publish(store, card, model, golden, answers)


def _over(card: VariantCard, budget: Budget) -> str:
    """By what the variant lies outside the budget; empty: it does not."""
    if budget.max_bytes and card.stored_bytes > budget.max_bytes:
        return f"{card.stored_bytes:,} bytes to send, more than {budget.max_bytes:,}"
    if budget.max_ms and card.latency_seconds and card.latency_seconds * 1000 > budget.max_ms:
        return f"{card.latency_seconds * 1000:.3g} ms for a row, more than {budget.max_ms:g}"
    return ""


def _json(record: dict[str, object]) -> bytes:
    return json.dumps(record, indent=1).encode()


try_recipes_task = task(name="try recipes", cache_policy=NO_CACHE)(try_recipes)
