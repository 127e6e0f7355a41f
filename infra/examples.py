"""Labelled records of a dataset by split, as models are trained and judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import BadRecord
from infra import sources
from infra.progress import publish
from infra.recipes import Examples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from data_catalog.nouns import Dataset


def load(model: str, classes: Sequence[str], dataset: Dataset, work: Path) -> dict[str, Examples]:
    """All labelled records by split.

    Args:
        model: its name, for progress and errors.
        classes: the labels, in the order of the model's outputs.
        dataset: with labels, and splits.
        work: a folder for what is downloaded.

    Raises:
        BadRecord: a label is none of the classes, or a split is empty.
        CatalogError: a source cannot be found.
    """
    number = {name: i for i, name in enumerate(classes)}
    names: list[str] = list(dataset.splits)
    parts: dict[str, list[tuple[Any, Any, Any]]] = {split: [] for split in names}
    for position, source in enumerate(dataset.sources):
        path = sources.local_files(dataset, source, work)[0]
        for records in sources.read_records(dataset, source, path, training=True):
            labels = records.labels.to_pylist()
            if strange := {label for label in labels if label not in number}:
                raise BadRecord(
                    f"{path}: label {sorted(map(str, strange))[0]!r} is no class of model {model}; correct one"
                )
            y = np.array([number[label] for label in labels], np.int64)
            ids = np.array(records.ids.to_pylist())
            for i, split in enumerate(names):
                chosen = records.splits == i
                parts[split].append((records.x[chosen], y[chosen], ids[chosen]))
        publish("load training data", model, position + 1, len(dataset.sources), "sources")
    examples = {}
    for split, blocks in parts.items():
        x, y, ids = (np.concatenate(column) for column in zip(*blocks, strict=True))
        examples[split] = Examples(x, y, ids)
        if not len(y):
            raise BadRecord(
                f"dataset {dataset.name} has no record in split {split!r}; give it more data or another share"
            )
    return examples


def labels(dataset: Dataset, work: Path) -> tuple[str, ...]:
    """The labels that occur, in order: as numbers if all are, else as texts.

    Raises:
        BadRecord: the records have none.
        CatalogError: a source cannot be found.
    """
    found: set[str] = set()
    for source in dataset.sources:
        path = sources.local_files(dataset, source, work)[0]
        for records in sources.read_records(dataset, source, path, training=True):
            found |= {str(label) for label in records.labels.to_pylist() if label is not None}
    if not found:
        raise BadRecord(f"dataset {dataset.name} has no labels; a model is judged by them")
    return tuple(sorted(found, key=lambda name: (len(name) if all(map(str.isdigit, found)) else 0, name)))
