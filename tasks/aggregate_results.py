"""Aggregate: every row of the index exactly once, from the ledger, into one Parquet dataset; and the scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import CorruptObject, LedgerMismatch, ObjectMissing
from data_catalog.nouns import Dataset, Escalated, Model, Placement, Plan, Receipt
from infra import drift, keys, ledger, pipeline, ration, scoring, settlement, storage
from infra.progress import publish

PREDICTIONS = pa.schema(
    [("record_id", pa.string()), ("prediction", pa.string()), ("confidence", pa.float32()),
     ("tier", pa.string()), ("edge_prediction", pa.string()), ("reason", pa.string()), ("status", pa.string())]
)  # fmt: skip
MISSING = pa.schema([(name, pa.string()) for name in ("record_id", "source", "shard", "site", "reason")])
CLOUD_NO_NUMBER, NO_NUMBER = "the cloud's answer is no number", "no answer is a number"
SHOWN = 24  # escalated rows kept for the report's pictures


@dataclass(slots=True)
class Totals:
    """Counts over the rows of a run; right answers are counted on the scored rows only."""

    rows_in: int = 0
    rows_out: int = 0
    escalated: int = 0
    held: int = 0  # unsure rows that the budget kept at the edge
    pending: int = 0  # unsure rows that wait for the cloud
    scored: int = 0
    right: dict[str, int] = field(default_factory=lambda: {"cascade": 0, "cloud_only": 0, "edge_only": 0})
    known: dict[str, int] = field(default_factory=lambda: {"cascade": 0, "cloud_only": 0, "edge_only": 0})
    files: list[str] = field(default_factory=list)
    missing: list[pa.Table] = field(default_factory=list)  # rows without an answer, as `MISSING` has them
    missing_key: str = ""
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
    result: pa.Table | None  # None: the site that should have answered has not, which the run knows
    escalated: Escalated | None
    answer: pa.Table | None
    waiting: bool = False  # rows of it may wait for the cloud:
    picked: Collection[int] | None = None  # these; None: all that are unsure


def aggregate_results(
    plan: Plan,
    dataset: Dataset,
    model: Model,
    receipts: Sequence[Receipt],
    work: Path,
    bucket: str,
    left_open: Mapping[str, str] | None = None,
) -> Totals:
    """Read the plan's results, each once, check them row by row against the record index, and write them out.

    Args:
        plan: names the results.
        dataset: names the sources; its training split is never scored.
        model: names the classes.
        receipts: say what was escalated.
        work: the run's own folder, where the output is built before it is stored.
        bucket: of the store.
        left_open: by site, or `escalations` for the cloud's answers to them: why an order did not end. What such an
            order should have given may be missing; what is there counts.

    Raises:
        LedgerMismatch: a row is missing, extra or answered twice; names result and rows.
        CorruptObject: a result or an index is damaged; names it.
    """
    store = storage.open_store(bucket)
    left_open = left_open or {}
    escalations = settlement.escalated_in(receipts)
    unsent = any(not escalated.sent for escalated in escalations.values())
    picked = settlement.picked_rows(store, plan, receipts) if plan.budget and (left_open or unsent) else None
    reference = scoring.read_reference(store, plan, dataset, model)
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
                return _fetch(store, numbered[1], rows, escalations, left_open, picked)

            def merge(fetched: _Fetched, writer: pq.ParquetWriter = writer) -> None:
                if fetched.result is None:
                    _miss(fetched, left_open, totals)
                else:
                    writer.write_table(merge_shard(fetched, plan, model, reference, totals))
                publish("aggregate", "coordinator", totals.rows_out, sum(p.shard.rows for p in plan.placements), "rows")

            pipeline.run_stages(enumerate(placements), [("fetch", fetch), ("merge", merge)], depth=8)
        key = keys.run(plan.run_id, "predictions", f"{source.name}.parquet")
        store.put_file(key, output)
        totals.files.append(key)
    if totals.missing:
        totals.missing_key = keys.run(plan.run_id, "missing.parquet")
        store.put(totals.missing_key, ledger.parquet(pa.concat_tables(totals.missing)))
    return totals


def _record_index(path: Path, key: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(key, str(error)) from error


def _damaged(key: str, why: str) -> CorruptObject:
    return CorruptObject(f"{key} is corrupt ({' '.join(why.split())[:120]}); delete that object and run again")


def _fetch(
    store: storage.Store,
    placement: Placement,
    records: pa.Table,
    escalations: Mapping[str, Escalated],
    left_open: Mapping[str, str],
    picked: Mapping[str, Collection[int]] | None,
) -> _Fetched:
    def read(name: str, what: str, order: str) -> pa.Table | None:
        key = keys.result(name)
        try:
            return ledger.read_result(store.get(key), key)
        except ObjectMissing as error:
            if order in left_open:
                return None
            raise LedgerMismatch(
                f"{key}, the result of {what}, is missing from the ledger; run again to compute it"
            ) from error

    shard = f"shard {placement.shard.digest[:12]} ({placement.shard.rows} rows of {placement.shard.source})"
    result = read(placement.result, shard, placement.site)
    escalated, answer, waiting = escalations.get(placement.result), None, placement.site in left_open
    if escalated:
        if escalated.sent:
            answer = read(escalated.result, f"the rows escalated from {shard}", keys.ESCALATIONS)
        waiting = answer is None
    mine = None if picked is None else picked.get(placement.result, ())
    return _Fetched(placement, records, result, escalated, answer, waiting, mine)


def _miss(fetched: _Fetched, left_open: Mapping[str, str], totals: Totals) -> None:
    """Name the rows of a shard that nobody has answered."""
    placement, ids = fetched.placement, fetched.records["record_id"]
    said = (placement.shard.source, placement.shard.digest, placement.site, left_open[placement.site])
    totals.missing.append(pa.table([ids, *(pa.array([text] * len(ids), pa.string()) for text in said)], MISSING))
    totals.rows_in += placement.shard.rows


def merge_shard(
    fetched: _Fetched, plan: Plan, model: Model, reference: scoring.Reference | None, totals: Totals
) -> pa.Table:
    """Check one shard's rows and merge the cloud's answers over the edge's; adds to the totals.

    Raises:
        LedgerMismatch: the rows are not those of the index, each once.
    """
    ids, result, answer = fetched.records["record_id"], fetched.result, fetched.answer
    assert result is not None
    require_same_rows(keys.result(fetched.placement.result), ids, result["record_id"])
    prediction = result["prediction"].to_numpy().copy()
    confidence = result["confidence"].to_numpy().copy()
    tier = np.full(len(prediction), result["tier"][0].as_py(), object)
    status, reason = tier.copy(), np.full(len(prediction), None, object)
    edge = prediction.copy() if tier[0] == "edge" else None
    reason[~(confidence > 0)] = NO_NUMBER
    if edge is not None:
        _count_confidences(fetched, plan, totals)
        threshold = plan.cascades[fetched.placement.variant].threshold
        unsure = np.flatnonzero(~(confidence >= np.float32(threshold)))
        given = pa.chunked_array([], pa.string()) if answer is None else answer["record_id"]
        where = keys.result(fetched.escalated.result) if fetched.escalated else keys.result(fetched.placement.result)
        going = np.ones(len(unsure), bool)
        if fetched.waiting:
            going = np.isin(unsure, list(fetched.picked)) if fetched.picked is not None else going
            status[unsure[going]], reason[unsure[going]] = "edge-pending", settlement.WAITING
            totals.pending += int(going.sum())
        else:
            if plan.budget:  # of the unsure rows, those that the budget let go
                going = np.isin(np.array(ids.to_pylist(), object)[unsure], np.array(given.to_pylist(), object))
            require_same_rows(where, ids.take(pa.array(unsure[going])), given)
        reason[unsure[~going]] = ration.OVER_BUDGET
        totals.held += int((~going).sum())
        if answer is not None:
            assert fetched.escalated is not None
            unsure = unsure[going]
            _show(fetched, unsure, edge, answer, model, totals)
            by_cloud, sure = answer["prediction"].to_numpy(), answer["confidence"].to_numpy()
            reason[unsure] = None
            reason[unsure[~(sure > 0)]] = CLOUD_NO_NUMBER
            reason[unsure[~(sure > 0) & ~(confidence[unsure] > 0)]] = NO_NUMBER
            mended = unsure[sure > 0]
            prediction[mended], confidence[mended] = by_cloud[sure > 0], sure[sure > 0]
            tier[mended], status[mended] = "cloud", "cloud"
            totals.escalated += len(mended)
    totals.rows_in += fetched.placement.shard.rows
    totals.rows_out += len(prediction)
    scoring.score(fetched.records, prediction, edge, tier, model, reference, totals)
    names = np.array(model.classes, object)
    return pa.table(
        [ids, pa.array(names[prediction], pa.string()), pa.array(confidence), pa.array(tier, pa.string()),
         pa.nulls(len(prediction), pa.string()) if edge is None else pa.array(names[edge], pa.string()),
         pa.array(reason, pa.string()), pa.array(status, pa.string())],
        PREDICTIONS,
    )  # fmt: skip


def _count_confidences(fetched: _Fetched, plan: Plan, totals: Totals) -> None:
    """Count how sure the edge is of rows that were in no split which made or judged a model."""
    fresh = np.array([split in {None, "test"} for split in fetched.records["split"].to_pylist()], bool)
    assert fetched.result is not None
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


def _show(
    fetched: _Fetched, unsure: NDArray[np.intp], edge: NDArray[np.int32], answer: pa.Table, model: Model, totals: Totals
) -> None:
    """Keep the first escalated rows for the report."""
    assert fetched.escalated is not None
    assert fetched.result is not None
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
