"""One site's part of a run: a work order in, a receipt out."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from data_catalog.nouns import Receipt
from infra.settings import read_settings
from tasks.infer_shards import infer_shards_task


def _name() -> str:
    """`edge-1 answers its shards`, or what the order's file is called."""
    order = str(flow_run.parameters["order_key"]).rpartition("/")[2].removesuffix(".json")
    return "cloud answers escalated rows" if order == "escalations" else f"{order} answers its shards"


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
