"""Fit what must be fitted before records can be preprocessed, once, and keep it in the store.

What comes out is the dataset with every fitted transform's `statistics` among its settings, as if the YAML had them:
whatever preprocesses, names or answers records of it needs to know nothing of fitting.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from data_catalog.errors import CatalogError, CorruptObject, ObjectMissing
from infra import keys, sources
from infra.security import policy
from infra.transforms import TRANSFORMS, kind

if TYPE_CHECKING:
    from pathlib import Path

    from data_catalog.nouns import Dataset, Split, Transform
    from infra.storage import Store


def needs_fit(spec: Transform, dataset: Dataset) -> bool:
    """Whether a step wants statistics that its settings do not have."""
    return "statistics" not in spec.settings and kind(TRANSFORMS.get(spec.name, f"dataset {dataset.name}")) == "fit"


def fitted(dataset: Dataset, work: Path, store: Store) -> Dataset:
    """The dataset with statistics, step by step: each is fitted on what the steps before it give.

    They are of the training split, or of every record where there are no splits, of all sources, in one pass. The
    store keeps them under a name made of everything that they depend on, and with their digest.

    Raises:
        CatalogError: a source cannot be found, or a transform cannot be fitted.
        BadRecord: a record does not fit the schema.
        CorruptObject: the statistics in the store are not what their digest says.
        AccessDenied: something has to be fitted, and the policy does not let this user do that.
    """
    for at, spec in enumerate(dataset.transforms):
        if not needs_fit(spec, dataset):
            continue
        before = dataset.model_copy(update={"transforms": dataset.transforms[:at], "lossy": None})
        key = keys.statistics(dataset.name, _name(before, spec, work))
        try:
            statistics = _read(store, key)
        except ObjectMissing:
            policy.authorise("train", dataset)
            statistics = _fit(before, spec, work)
            text = json.dumps(statistics)
            store.put(key, json.dumps({"digest": keys.digest_of(statistics), "statistics": json.loads(text)}).encode())
        dataset = _with(dataset, at, statistics)
    return dataset


def fitted_like(dataset: Dataset, model_dataset: Dataset) -> Dataset:
    """The dataset with the statistics of another one, on which the model that answers it was trained.

    A model knows records only as its own dataset scaled them, so a batch is never scaled by itself.

    Raises:
        CatalogError: the other has no such step after the same ones.
    """
    for at, spec in enumerate(dataset.transforms):
        if not needs_fit(spec, dataset):
            continue
        theirs = model_dataset.transforms[at] if at < len(model_dataset.transforms) else None
        settings = dict(theirs.settings) if theirs else {}
        statistics: Any = settings.pop("statistics", None)
        same = theirs and dataset.transforms[:at] == model_dataset.transforms[:at]
        if not theirs or not same or statistics is None or (theirs.name, settings) != (spec.name, spec.settings):
            raise CatalogError(
                f"dataset {dataset.name}: transform {spec.name!r} has no `statistics`, and the model's dataset"
                f" {model_dataset.name} has no such step after the same ones; give both the same steps, or write `statistics`"
            )
        dataset = _with(dataset, at, statistics)
    return dataset


def _with(dataset: Dataset, at: int, statistics: dict[str, Any]) -> Dataset:
    spec = dataset.transforms[at]
    filled = type(spec).model_validate({"name": spec.name, **spec.settings, "statistics": statistics})
    return dataset.model_copy(update={"transforms": (*dataset.transforms[:at], filled, *dataset.transforms[at + 1 :])})


def _name(before: Dataset, spec: Transform, work: Path) -> str:
    """The name of what fitting would give: of the records, the steps before, and the step."""
    content = [
        sources.content_digest(before, source, sources.local_files(before, source, work)) for source in before.sources
    ]
    step = [spec.name, TRANSFORMS.get(spec.name).VERSION, spec.settings]
    return keys.digest_of("statistics", content, sources.preprocessing_digest(before), step)


def _fit(before: Dataset, spec: Transform, work: Path) -> dict[str, Any]:
    splits: tuple[Split, ...] = ("train",) if "train" in before.splits else ()
    blocks = (
        records.x
        for source in before.sources
        for records in sources.read_records(before, source, sources.local_files(before, source, work)[0], splits)
    )
    try:
        return TRANSFORMS.get(spec.name).fit(blocks, **spec.settings)
    except (TypeError, ValueError) as error:
        raise CatalogError(f"dataset {before.name}: transform {spec.name!r}: {error}; correct it") from error


def _read(store: Store, key: str) -> dict[str, Any]:
    data = store.get(key)
    try:
        kept = json.loads(data)
        statistics: dict[str, Any] = kept["statistics"]
        if keys.digest_of(statistics) == kept["digest"]:
            return statistics
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObject(f"{key} is corrupt ({error}); delete that object and run again") from error
    raise CorruptObject(f"{key} is corrupt (another digest than it says); delete that object and run again")
