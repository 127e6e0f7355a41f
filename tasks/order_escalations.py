"""Write the cloud's second work order: the rows that the edges were unsure of."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import OrderedShard, Plan, Receipt, Site, WorkOrder
from infra import orders, storage

ORDER_ID = "escalations"


def order_escalations(plan: Plan, receipts: Sequence[Receipt], cloud: Site | None, bucket: str) -> str | None:
    """The key of the order, or None if no row was escalated; of a shard that was answered twice, the answer that counts.

    Args:
        plan: names run and cloud variant.
        receipts: of the edges.
        cloud: the site that answers.
        bucket: of the store.

    Raises:
        AccessDenied: the policy does not let this user do that any more.
    """
    counts = {p.result for p in plan.placements}
    shards = tuple(
        OrderedShard(
            key=e.key, digest=e.digest, rows=e.rows, bytes=e.bytes, codec=e.codec, result=e.result, local=True
        )
        for receipt in receipts for e in receipt.escalated if e.shard in counts
    )  # fmt: skip
    if not shards or cloud is None:
        return None
    order = WorkOrder(
        run_id=plan.run_id,
        order_id=ORDER_ID,
        site=cloud.name,
        tier="cloud",
        card=plan.cards[cloud.name],
        batch=plan.batch_sizes[cloud.name],
        threads=cloud.threads,
        shards=tuple({shard.result: shard for shard in shards}.values()),
    )
    return orders.put_order(storage.open_store(bucket), order, plan.access)


order_escalations_task = task(name="escalate", cache_policy=NO_CACHE)(order_escalations)
