"""Fit the transforms of a model's dataset, and give a batch the same statistics."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Dataset
from infra import fitting, storage


def fit_transforms(batch: Dataset, trained_on: Dataset, work: Path, bucket: str) -> tuple[Dataset, Dataset]:
    """Both datasets with the statistics that their transforms need; nothing is read where none needs any.

    Args:
        batch: what a run answers.
        trained_on: the model's dataset, whose training split is what statistics are of.
        work: the run's own folder on this machine.
        bucket: of the store.

    Raises:
        CatalogError: a source cannot be found, a transform cannot be fitted, or the batch has steps of its own.
        BadRecord: a record does not fit the schema.
    """
    known = fitting.fitted(trained_on, work, storage.open_store(bucket))
    return fitting.fitted_like(batch, known), known


fit_transforms_task = task(name="fit transforms", task_run_name="fit {trained_on.name}", cache_policy=NO_CACHE)(
    fit_transforms
)
