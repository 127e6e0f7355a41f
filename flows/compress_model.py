"""Make a model small: try recipes of compression, publish what passes the gate, and say which variant to take."""

from __future__ import annotations

import os
import time
from typing import Annotated

from prefect import flow
from pydantic import Field

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput
from data_catalog.nouns import Budget, CompressionReport, Gate
from infra.originals import is_file
from infra.security.policy import authorise
from infra.settings import read_settings
from infra.workspace import workspace
from tasks.fit_transforms import fit_transforms_task
from tasks.prepare_original import prepare_original_task
from tasks.publish_cards import publish_cards_task
from tasks.report_compression import report_compression_task
from tasks.train_model import train_model_task
from tasks.try_recipes import try_recipes_task

IMPORTED = Gate(max_drop=0.01, max_class_drop=0.05)  # for models that are not in the catalog


@flow(name="compress model", flow_run_name="compress {model}")
def compress_model(
    model: Annotated[
        str,
        Field(description="A model of the catalog, or a path, URL or store:// key of a Keras file or a SavedModel"),
    ] = "digits",
    dataset: Annotated[
        str, Field(description="With train, calibration and validation split; empty: what the model is trained on")
    ] = "",
    name: Annotated[str, Field(description="Of a model that is not in the catalog; empty: from its file")] = "",
    classes: Annotated[
        tuple[str, ...], Field(description="Its labels, in the order of its outputs; none: those that occur, sorted")
    ] = (),
    recipes: Annotated[tuple[str, ...], Field(description="Recipes of the catalog; none: all")] = (),
    max_bytes: Annotated[int | None, Field(description="Most bytes to send", ge=1)] = None,
    max_ms: Annotated[float | None, Field(description="Most milliseconds for one row, on this machine", gt=0)] = None,
    max_drop: Annotated[
        float | None, Field(description="Most loss of accuracy, 1 = 100 %; none: the model's gate", gt=0, le=1)
    ] = None,
    max_class_drop: Annotated[
        float | None, Field(description="Most loss of accuracy in any class; none: the model's gate", gt=0, le=1)
    ] = None,
    minutes: Annotated[float, Field(description="After which no new step is begun", gt=0)] = 60.0,
) -> CompressionReport:
    """Try recipes on a model and publish the variants that pass the gate; what was tried before is not repeated.

    Raises:
        CloudEdgeError: what stopped the search; steps that were done stay, so the next search goes on.
    """
    started = time.time()
    settings = read_settings()
    bucket = settings.required_bucket()
    catalog = Catalog(settings.catalog_folders)
    tried = tuple(catalog.recipe(recipe, "parameter `recipes`") for recipe in recipes or catalog.names("recipes"))
    budget = Budget(max_bytes=max_bytes, max_ms=max_ms, minutes=minutes)
    entry = None if is_file(model) else catalog.model(model, "parameter `model`")
    if entry is None and not dataset:
        raise BadInput(f"{model} is not in the catalog, so name the dataset that it is judged on (parameter `dataset`)")
    own = entry.gate if entry else IMPORTED
    bounds = Gate(max_drop=max_drop or own.max_drop, max_class_drop=max_class_drop or own.max_class_drop)
    school = catalog.dataset(dataset or (entry.trained_on if entry else ""), "parameter `dataset`")
    access = authorise("compress", school)
    with workspace(settings.home) as work:
        _, school = fit_transforms_task(school, school, work, bucket)
        card = train_model_task(entry, school, work, bucket)["cloud"] if entry else None
        job = prepare_original_task(entry or model, card, school, bounds, work, bucket, name, classes)
        trials = try_recipes_task(job, tried, budget, os.cpu_count() or 1, settings.dask_address)
        publish_cards_task([trial.card for trial in trials if trial.status == "published" and trial.card], started)
        return report_compression_task(job, trials, budget, started, access)
