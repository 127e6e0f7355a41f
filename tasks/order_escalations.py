"""Write the cloud's second work order: the rows that the edges were unsure of."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import OrderedShard, Plan, Receipt, Site, WorkOrder
from infra import keys, orders, settlement, storage


def order_escalations(
    plan: Plan, receipts: Sequence[Receipt], cloud: Site | None, bucket: str, number: int = 0
) -> str | None:
    """The key of the order, or None if no row was escalated; what could not be sent is left for later.

    Of a shard that was answered twice, the answer that the plan names counts.

    Args:
        plan: names run and cloud variant.
        receipts: of the edges.
        cloud: the site that answers.
        bucket: of the store.
        number: of the try to settle a run; 0: the run itself.

    Raises:
        AccessDenied: the policy does not let this user do that any more.
    """
    counts = {p.result for p in plan.placements}
    store = storage.open_store(bucket)
    sent = [e for e in settlement.escalated_in(receipts).values() if e.sent and e.shard in counts]
    there = store.present([keys.result(e.result) for e in sent]) if number else set()  # then they are counted already
    shards = tuple(
        OrderedShard(
            key=e.key, digest=e.digest, rows=e.rows, bytes=e.bytes, codec=e.codec, result=e.result, local=True
        )
        for e in sent if keys.result(e.result) not in there
    )  # fmt: skip
    if not shards or cloud is None:
        return None
    order = WorkOrder(
        run_id=plan.run_id,
        order_id=keys.order_id(keys.ESCALATIONS, f"{number}" if number else ""),
        site=cloud.name,
        tier="cloud",
        card=plan.cards[cloud.name],
        batch=plan.batch_sizes[cloud.name],
        threads=cloud.threads,
        shards=tuple({shard.result: shard for shard in shards}.values()),
    )
    return orders.put_order(store, order, plan.access)


order_escalations_task = task(name="escalate", cache_policy=NO_CACHE)(order_escalations)
