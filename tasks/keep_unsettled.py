"""Keep what a run leaves open, before its report says so; and forget it when it is settled."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.settlement import Unsettled
from infra import coordination, keys, storage


def keep_unsettled(left: Unsettled, bucket: str, *, is_open: bool) -> None:
    """Write what is left open, or remove it if nothing is any more.

    It is written before the report and removed after it: whatever is killed in between, nothing that is open is forgotten.

    Args:
        left: of a run.
        bucket: of the store.
        is_open: whether rows are missing or wait for the cloud.
    """
    store, key = storage.open_store(bucket), keys.unsettled(left.run_id)
    if is_open:
        coordination.put(store, left.run_id, key, left.model_dump_json(indent=1).encode())
    else:
        store.delete(key)


keep_unsettled_task = task(name="keep what is open", cache_policy=NO_CACHE)(keep_unsettled)
