"""Right answers of a run, counted on the rows that are labelled and that no model has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from data_catalog.errors import BadRecord, LedgerMismatch
from infra import keys, model_registry

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from data_catalog.nouns import Dataset, Model, Plan
    from infra.storage import Store


class Scores(Protocol):
    """Counts that right answers are added to."""

    scored: int
    right: dict[str, int]
    known: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reference:
    """What each variant alone says to the test rows: sorted ids, and class numbers by tier."""

    key: str
    ids: NDArray[np.object_]
    edge: NDArray[np.int32]
    cloud: NDArray[np.int32]

    def of(self, tier: str, ids: NDArray[np.object_]) -> NDArray[np.int32]:
        """The tier's class numbers for ids.

        Raises:
            LedgerMismatch: one has no answer.
        """
        answers: NDArray[np.int32] = getattr(self, tier)
        where = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        if (missing := ids[self.ids[where] != ids]).size:
            raise LedgerMismatch(
                f"{self.key} has no answer for the test row {missing[0]}; delete that object and run again"
            )
        return answers[where]


def read_reference(store: Store, plan: Plan, dataset: Dataset, model: Model) -> Reference | None:
    """Both variants' answers to the test rows of the dataset that they were trained on; None for another."""
    if dataset.name != model.trained_on or "test" not in dataset.splits:
        return None
    edge, cloud = plan.variants["edge"], plan.variants["cloud"]
    key = keys.answers(edge.model, edge.version, edge.name, "test")
    table = model_registry.read_answers(store, edge, cloud, "test")
    ids = np.array(table["record_id"].to_pylist(), object)
    return Reference(key, ids, table["edge"].to_numpy(), table["cloud"].to_numpy())


def score(
    records: pa.Table,
    prediction: NDArray[np.int32],
    edge: NDArray[np.int32] | None,
    tier: NDArray[np.object_],
    model: Model,
    reference: Reference | None,
    totals: Scores,
) -> None:
    """Count right answers on the rows that are labelled and that no model has seen.

    Of the dataset that the model was trained on these are the test rows; of another, all labelled rows.
    What cloud-only and edge-only would have said comes from this run where it is known for every row, else
    from the answers that were kept when the variants were judged.
    """
    label = np.array(records["label"].to_pylist(), object)
    scored = np.array([text is not None for text in label])
    if reference is not None:
        scored &= np.array(records["split"].to_pylist(), object) == "test"
    if not scored.any():
        return
    number = {name: i for i, name in enumerate(model.classes)}
    if strange := sorted(set(label[scored]) - set(number)):
        raise BadRecord(
            f"label {strange[0]!r} of the dataset is no class of model {model.name} ({', '.join(model.classes)});"
            " correct the labels, or leave `record.label` out to run without scores"
        )
    truth = np.array([number[text] for text in label[scored]])
    ids = np.array(records["record_id"].to_pylist(), object)[scored]
    answers: dict[str, NDArray[np.int32] | None] = {
        "cascade": prediction[scored],
        "edge_only": None,
        "cloud_only": None,
    }
    if edge is not None:
        answers["edge_only"] = edge[scored]
    elif reference is not None:
        answers["edge_only"] = reference.of("edge", ids)
    if reference is not None:
        answers["cloud_only"] = reference.of("cloud", ids)
    elif (tier[scored] == "cloud").all():
        answers["cloud_only"] = prediction[scored]
    totals.scored += len(truth)
    for name, given in answers.items():
        if given is not None:
            totals.right[name] += int((given == truth).sum())
            totals.known[name] += len(truth)
