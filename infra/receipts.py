"""The receipt of a site that gave none, from what it left in the ledger.

A result is written after its escalated rows and remembers what was packed, so the ledger says all that matters.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.nouns import Escalated, Placement, Receipt
from infra import keys, ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import Plan, WorkOrder
    from infra.storage import Store

AT_A_TIME = 8  # results that are read side by side


@dataclass(frozen=True, slots=True)
class Standing:
    """How one shard of a plan stands in the ledger."""

    placement: Placement
    size: int = 0  # bytes of its result; 0: there is none
    confidence: NDArray[np.float32] | None = None
    packed: ledger.Packed | None = None


def standings(store: Store, placements: Sequence[Placement]) -> list[Standing]:
    """How shards stand in the ledger, in their order.

    Raises:
        CorruptObject: a result is damaged.
    """
    there = store.present([keys.result(placement.result) for placement in placements])

    def look(placement: Placement) -> Standing:
        key = keys.result(placement.result)
        if key not in there:
            return Standing(placement)
        data = store.get(key)
        table = ledger.read_result(data, key)
        return Standing(placement, len(data), table["confidence"].to_numpy(), ledger.packed_in(table))

    with ThreadPoolExecutor(AT_A_TIME, "standings") as pool:
        return list(pool.map(look, placements))


def unsure(plan: Plan, standing: Standing) -> NDArray[np.intp]:
    """(k,) rows of a shard that an edge answered and that should escalate; none of a cloud's."""
    threshold = plan.cascades.get(standing.placement.variant)
    if threshold is None or standing.confidence is None:
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.nan_to_num(standing.confidence, nan=0.0) < np.float32(threshold.threshold))


def from_ledger(store: Store, plan: Plan, order: WorkOrder, found: Sequence[Standing]) -> Receipt:
    """The receipt of an order that did not end: the shards that it answered; when, nobody knows.

    Of each it is said what was packed for the cloud; if that is not where the order wants it, `sent` is false.

    Args:
        store: where the packed rows are.
        plan: of the run.
        order: that the site had.
        found: how those of its shards stand that have a result.
    """
    wanted = order.escalation
    escalated = []
    for standing in found if wanted and not wanted.held else ():
        assert wanted is not None
        rows = len(unsure(plan, standing))
        packed = standing.packed
        if not rows:
            continue
        if packed is None or (packed.threshold, packed.codec) != (wanted.threshold, wanted.codec):
            packed = ledger.Packed(wanted.threshold, wanted.codec, rows)
        key = keys.escalation(packed.digest, packed.codec, bool(wanted.shard_set)) if packed.digest else ""
        escalated.append(
            Escalated(
                shard=standing.placement.result, key=key, digest=packed.digest, rows=rows, bytes=packed.bytes,
                codec=packed.codec, sent=bool(key) and store.exists(key),
                result=keys.result_name(packed.digest, wanted.cloud_variant, wanted.preprocessing),
            )
        )  # fmt: skip
    size = sum(standing.size for standing in found if not standing.placement.reused)
    computed = sum(not standing.placement.reused for standing in found)
    return Receipt(
        run_id=plan.run_id, order_id=order.order_id, site=order.site, tier=order.tier, variant=order.card.digest,
        fallback=order.fallback, started=plan.created, finished=plan.created, shards=len(found),
        rows=sum(standing.placement.shard.rows for standing in found), computed_results=computed,
        reused_results=len(found) - computed, escalated=tuple(escalated), seconds={}, startup_seconds=0.0, bytes_in=0,
        bytes_out=size, wan_in=0, wan_out=size, spans=(),
    )  # fmt: skip


def settle(
    store: Store, plan: Plan, order: WorkOrder, placements: Sequence[Placement], started: float, why: str
) -> Receipt:
    """The receipt for a site that is gone, so that others can do the rest of its order.

    Only shards of which nothing is left to be done are in it; the others are `withdrawn`, as are those whose escalated rows
    are not there, or were encrypted by an earlier run for whoever had to read them then: somebody has to look at these again.

    Args:
        store: with the ledger.
        plan: of the run.
        order: that the site had.
        placements: those of its shards whose results are in the ledger.
        started: when the order was handed over, epoch seconds.
        why: there is no receipt of its own.

    Raises:
        CorruptObject: a result is damaged.
        StoreError: the store failed.
    """
    found = [standing for standing in standings(store, placements) if standing.size]
    sealed = order.escalation is not None and bool(order.escalation.shard_set)
    earlier = {standing.placement.result for standing in found if standing.placement.reused and sealed}
    escalated = from_ledger(store, plan, order, found).escalated
    again = {each.shard for each in escalated if not each.sent or each.shard in earlier}
    whole = [standing for standing in found if standing.placement.result not in again]
    done = {standing.placement.result for standing in whole}
    return from_ledger(store, plan, order, whole).model_copy(
        update={
            "started": started, "finished": time.time(), "lost": why,
            "withdrawn": tuple(shard.result for shard in order.shards if shard.result not in done),
        }
    )  # fmt: skip
