"""Aggregate: every row of the index exactly once, from the ledger, into one Parquet dataset; and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadRecord, CorruptObject, LedgerMismatch, ObjectMissing
from data_catalog.nouns import Dataset, Escalated, Model, Placement, Plan, Receipt
from infra import drift, keys, ledger, model_registry, pipeline, ration, storage
from infra.progress import publish

PREDICTIONS = pa.schema(
    [("record_id", pa.string()), ("prediction", pa.string()), ("confidence", pa.float32()),
     ("tier", pa.string()), ("edge_prediction", pa.string()), ("reason", pa.string())]
)  # fmt: skip
SHOWN = 24  # escalated rows kept for the report's pictures


@dataclass(slots=True)
class Totals:
    """Counts over the rows of a run; right answers are counted on the scored rows only."""

    rows_in: int = 0
    rows_out: int = 0
    escalated: int = 0
    held: int = 0  # unsure rows that the budget kept at the edge
    scored: int = 0
    right: dict[str, int] = field(default_factory=lambda: {"cascade": 0, "cloud_only": 0, "edge_only": 0})
    known: dict[str, int] = field(default_factory=lambda: {"cascade": 0, "cloud_only": 0, "edge_only": 0})
    files: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    confidences: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # by edge: as `drift.count` counts them


@dataclass(frozen=True, slots=True)
class Shown:
    """An escalated row for the report: what both tiers said."""

    record_id: str
    escalation: Escalated
    edge: str
    cloud: str
    label: str | None
    confidence: float


@dataclass(frozen=True, slots=True)
class _Fetched:
    """One shard's tables, before they are merged."""

    placement: Placement
    records: pa.Table
    result: pa.Table
    escalated: Escalated | None
    answer: pa.Table | None


def aggregate_results(
    plan: Plan, dataset: Dataset, model: Model, receipts: Sequence[Receipt], work: Path, bucket: str
) -> Totals:
    """Read the plan's results, each once, check them row by row against the record index, and write them out.

    Args:
        plan: names the results.
        dataset: names the sources; its training split is never scored.
        model: names the classes.
        receipts: say what was escalated.
        work: the run's own folder, where the output is built before it is stored.
        bucket: of the store.

    Raises:
        LedgerMismatch: a row is missing, extra or answered twice; names result and rows.
        CorruptObject: a result or an index is damaged; names it.
    """
    store = storage.open_store(bucket)
    escalations = {e.shard: e for receipt in receipts for e in receipt.escalated}
    reference = _reference(store, plan, dataset, model)
    totals = Totals()
    for source in dataset.sources:
        placements = [p for p in plan.placements if p.shard.source == source.name]
        index_key = keys.record_index(dataset.name, source.name, plan.fingerprints[source.name])
        local, output = work / f"{source.name}-index.parquet", work / f"{source.name}-predictions.parquet"
        store.get_file(index_key, local)
        with (
            _record_index(local, index_key) as records,
            pq.ParquetWriter(output, PREDICTIONS, compression="zstd") as writer,
        ):
            if records.num_row_groups != len(placements):
                raise _damaged(index_key, f"{records.num_row_groups} shards where the plan has {len(placements)}")

            def fetch(
                numbered: tuple[int, Placement], records: pq.ParquetFile = records, index_key: str = index_key
            ) -> _Fetched:
                try:
                    rows = records.read_row_group(numbered[0])
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(index_key, str(error)) from error
                return _fetch(store, numbered[1], rows, escalations)

            def merge(fetched: _Fetched, writer: pq.ParquetWriter = writer) -> None:
                writer.write_table(merge_shard(fetched, plan, model, reference, totals))
                publish("aggregate", "coordinator", totals.rows_out, sum(p.shard.rows for p in plan.placements), "rows")

            pipeline.run_stages(enumerate(placements), [("fetch", fetch), ("merge", merge)], depth=8)
        key = keys.run(plan.run_id, "predictions", f"{source.name}.parquet")
        store.put_file(key, output)
        totals.files.append(key)
    said = sum(receipt.held_rows for receipt in receipts)
    once = not any(receipt.withdrawn or receipt.lost for receipt in receipts)  # else two may have held the same rows
    if totals.held > said or (once and totals.held < said):
        raise LedgerMismatch(
            f"run {plan.run_id}: {totals.held} unsure rows were not escalated where the sites' budget held {said}; run again"
        )
    return totals


def _record_index(path: Path, key: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(key, str(error)) from error


def _damaged(key: str, why: str) -> CorruptObject:
    return CorruptObject(f"{key} is corrupt ({' '.join(why.split())[:120]}); delete that object and run again")


def _fetch(
    store: storage.Store, placement: Placement, records: pa.Table, escalations: Mapping[str, Escalated]
) -> _Fetched:
    def read(name: str, what: str) -> pa.Table:
        key = keys.result(name)
        try:
            return ledger.read_result(store.get(key), key)
        except ObjectMissing as error:
            raise LedgerMismatch(
                f"{key}, the result of {what}, is missing from the ledger; run again to compute it"
            ) from error

    shard = f"shard {placement.shard.digest[:12]} ({placement.shard.rows} rows of {placement.shard.source})"
    escalated = escalations.get(placement.result)
    answer = read(escalated.result, f"the rows escalated from {shard}") if escalated else None
    return _Fetched(placement, records, read(placement.result, shard), escalated, answer)


def merge_shard(fetched: _Fetched, plan: Plan, model: Model, reference: _Reference | None, totals: Totals) -> pa.Table:
    """Check one shard's rows and merge the cloud's answers over the edge's; adds to the totals.

    Raises:
        LedgerMismatch: the rows are not those of the index, each once.
    """
    ids, result, answer = fetched.records["record_id"], fetched.result, fetched.answer
    require_same_rows(keys.result(fetched.placement.result), ids, result["record_id"])
    prediction = result["prediction"].to_numpy().copy()
    confidence = result["confidence"].to_numpy().copy()
    tier = np.full(len(prediction), result["tier"][0].as_py(), object)
    edge = prediction.copy() if tier[0] == "edge" else None
    held = np.zeros(len(prediction), bool)
    if edge is not None:
        _count_confidences(fetched, plan, totals)
        threshold = plan.cascades[fetched.placement.variant].threshold
        unsure = np.flatnonzero(confidence < np.float32(threshold))
        given = pa.chunked_array([], pa.string()) if answer is None else answer["record_id"]
        where = keys.result(fetched.escalated.result) if fetched.escalated else keys.result(fetched.placement.result)
        if plan.budget:  # of the unsure rows, those that the budget let go
            sent = np.isin(np.array(ids.to_pylist(), object)[unsure], np.array(given.to_pylist(), object))
            held[unsure[~sent]] = True
            totals.held += int((~sent).sum())
            unsure = unsure[sent]
        require_same_rows(where, ids.take(pa.array(unsure)), given)
        if answer is not None:
            assert fetched.escalated is not None
            _show(fetched, unsure, edge, answer, model, totals)
            prediction[unsure], confidence[unsure] = answer["prediction"].to_numpy(), answer["confidence"].to_numpy()
            tier[unsure] = "cloud"
            totals.escalated += len(unsure)
    totals.rows_in += fetched.placement.shard.rows
    totals.rows_out += len(prediction)
    _score(fetched.records, prediction, edge, tier, model, reference, totals)
    names = np.array(model.classes, object)
    return pa.table(
        [ids, pa.array(names[prediction], pa.string()), pa.array(confidence), pa.array(tier, pa.string()),
         pa.nulls(len(prediction), pa.string()) if edge is None else pa.array(names[edge], pa.string()),
         pa.array([ration.OVER_BUDGET if stays else None for stays in held], pa.string())],
        PREDICTIONS,
    )  # fmt: skip


def _count_confidences(fetched: _Fetched, plan: Plan, totals: Totals) -> None:
    """Count how sure the edge is of rows that were in no split which made or judged a model."""
    fresh = np.array([split in {None, "test"} for split in fetched.records["split"].to_pylist()], bool)
    counts = drift.count(plan.cascades[fetched.placement.variant], fetched.result["confidence"].to_numpy()[fresh])
    site = fetched.placement.site
    totals.confidences[site] = totals.confidences.get(site, 0) + counts


def require_same_rows(key: str, expected: pa.ChunkedArray, found: pa.ChunkedArray) -> None:
    """Compare the ids of a result with those it should have, in order.

    Raises:
        LedgerMismatch: names the first missing, extra or duplicate rows.
    """
    if expected.equals(found):
        return
    wanted, there = expected.to_pylist(), found.to_pylist()
    missing = sorted(set(wanted) - set(there))
    extra = sorted(set(there) - set(wanted))
    twice = sorted({row for row in there if there.count(row) > 1}) if len(set(there)) < len(there) else []
    parts = [
        f"{len(rows)} {what} ({', '.join(rows[:3])}{', ...' if len(rows) > 3 else ''})"
        for what, rows in (("missing", missing), ("extra", extra), ("duplicate", twice)) if rows
    ]  # fmt: skip
    raise LedgerMismatch(
        f"{key} does not hold the rows of its shard: {'; '.join(parts) or 'they are in another order'};"
        " delete that object and run again"
    )


@dataclass(frozen=True, slots=True)
class _Reference:
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


def _reference(store: storage.Store, plan: Plan, dataset: Dataset, model: Model) -> _Reference | None:
    """Both variants' answers to the test rows of the dataset that they were trained on; None for another."""
    if dataset.name != model.trained_on or "test" not in dataset.splits:
        return None
    edge, cloud = plan.variants["edge"], plan.variants["cloud"]
    key = keys.answers(edge.model, edge.version, edge.name, "test")
    table = model_registry.read_answers(store, edge, cloud, "test")
    ids = np.array(table["record_id"].to_pylist(), object)
    return _Reference(key, ids, table["edge"].to_numpy(), table["cloud"].to_numpy())


def _score(
    records: pa.Table,
    prediction: NDArray[np.int32],
    edge: NDArray[np.int32] | None,
    tier: NDArray[np.object_],
    model: Model,
    reference: _Reference | None,
    totals: Totals,
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


def _show(
    fetched: _Fetched, unsure: NDArray[np.intp], edge: NDArray[np.int32], answer: pa.Table, model: Model, totals: Totals
) -> None:
    """Keep the first escalated rows for the report."""
    assert fetched.escalated is not None
    confidence = fetched.result["confidence"].to_numpy()
    for position, row in enumerate(unsure[: SHOWN - len(totals.shown)]):
        totals.shown.append(
            Shown(
                record_id=fetched.records["record_id"][int(row)].as_py(),
                escalation=fetched.escalated,
                edge=model.classes[edge[row]],
                cloud=model.classes[answer["prediction"][position].as_py()],
                label=fetched.records["label"][int(row)].as_py(),
                confidence=float(confidence[row]),
            )
        )


aggregate_results_task = task(name="aggregate", cache_policy=NO_CACHE)(aggregate_results)
