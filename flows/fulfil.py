"""One site's part of a run: a work order in, a receipt out."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from data_catalog.nouns import Receipt
from infra import keys
from infra.settings import read_settings
from tasks.infer_shards import infer_shards_task

DOES = {"sends": "sends what it is unsure of", "again": "sends what did not arrive", "rest": "answers what was left"}


def _name() -> str:
    """`edge-1 answers its shards`, by what the order's file is called."""
    order = str(flow_run.parameters["order_key"]).rpartition("/")[2].removesuffix(".json")
    site, _, kind = order.partition(".")
    if site == keys.ESCALATIONS:
        return "cloud answers escalated rows"
    return f"{site} {DOES.get(kind.partition('-')[0], 'answers its shards')}"


@flow(name="site", flow_run_name=_name)
def fulfil(order_key: str) -> Receipt:
    """Do one work order; runs on any machine that has the store.

    Args:
        order_key: of the `WorkOrder` in the store.

    Returns:
        The receipt, which is in the store too.

    Raises:
        CloudEdgeError: what stopped the site, by name; results committed so far stay.
    """
    settings = read_settings()
    return infer_shards_task(order_key, settings.home, settings.required_bucket(), settings.dask_address)
