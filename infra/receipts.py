"""The receipt of a site that gave none, from what it left in the ledger.

A result is written after its escalated rows and remembers what was packed, so the ledger says all that matters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from data_catalog.nouns import Receipt
from infra import keys, ledger
from infra.engine import _escalated

if TYPE_CHECKING:
    from collections.abc import Collection

    from data_catalog.nouns import Escalated, WorkOrder
    from infra.storage import Store


def settle(
    store: Store, order: WorkOrder, there: Collection[str], reused: Collection[str], started: float, why: str
) -> tuple[Receipt, set[str]]:
    """What a site did for an order before it was gone, and what of that cannot be told from the ledger.

    Args:
        store: where the results are.
        order: that it had.
        there: names of its results that the ledger holds.
        reused: of these, the ones that it held before the run.
        started: when the order was handed over, epoch seconds.
        why: there is no receipt of its own.

    Returns:
        The receipt, for the results that are settled, and the names of those that are not: their escalated rows are
        not where the order wants them, so somebody has to look at the shard again.

    Raises:
        CorruptObject: a result is damaged.
        StoreError: the store failed.
    """
    escalated: list[Escalated] = []
    unsettled: set[str] = set()
    size = 0
    for shard in (shard for shard in order.shards if shard.result in there):
        key = keys.result(shard.result)
        data = store.get(key)
        size += len(data) * (shard.result not in reused)
        if order.escalation is None:
            continue
        result = ledger.read_result(data, key)
        packed = ledger.packed_in(result)
        current = packed and (packed.threshold, packed.codec) == (order.escalation.threshold, order.escalation.codec)
        if not packed or not current or (order.escalation.shard_set and shard.result in reused):
            unsettled.add(shard.result)
        elif packed.rows:
            rows = _escalated(order.escalation, shard, packed)
            if store.exists(rows.key):
                escalated.append(rows)
            else:
                unsettled.add(shard.result)
    settled = [shard for shard in order.shards if shard.result in there and shard.result not in unsettled]
    receipt = Receipt(
        run_id=order.run_id,
        order_id=order.order_id,
        site=order.site,
        tier=order.tier,
        variant=order.card.digest,
        fallback=order.fallback,
        started=started,
        finished=time.time(),
        shards=len(settled),
        rows=sum(shard.rows for shard in settled),
        computed_results=sum(shard.result not in reused for shard in settled),
        reused_results=sum(shard.result in reused for shard in settled),
        escalated=tuple(sorted(escalated, key=lambda e: e.shard)),
        seconds={},
        startup_seconds=0.0,
        bytes_in=0,
        bytes_out=size,
        wan_in=0,
        wan_out=size,
        spans=(),
        withdrawn=tuple(shard.result for shard in order.shards if shard not in settled),
        lost=why,
    )
    return receipt, unsettled
