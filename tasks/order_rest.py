"""Order the sites to answer the shards of a run that have no result yet."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Plan
from infra import settlement, storage


def order_rest(plan: Plan, number: int, bucket: str) -> list[str]:
    """The keys of the orders, one for each site that has shards left; each goes to the site that the plan gave it.

    Args:
        plan: of the run.
        number: of the try.
        bucket: of the store.
    """
    store = storage.open_store(bucket)
    kind = f"{settlement.REST}-{number}"
    return [settlement.write_order(store, plan, order, kind) for order in settlement.open_orders(store, plan)]


order_rest_task = task(name="order the rest", cache_policy=NO_CACHE)(order_rest)
