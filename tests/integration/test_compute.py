"""The same work order on a real Dask cluster of processes, by address, as on threads."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from distributed import LocalCluster

from data_catalog.errors import CorruptObject, SettingError, SiteFailed
from data_catalog.nouns import WorkOrder
from infra import compute, keys
from tasks.infer_shards import infer_shards

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def scheduler(up_variables):
    """A cluster whose workers have the store's variables: credentials never travel with the work."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in up_variables.items():
            patch.setenv(name, value)
        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster:
            yield cluster.scheduler_address


@pytest.fixture
def order_key(quick_run) -> str:
    return keys.run(quick_run["run_id"], "orders", "edge-1.json")


def results_of(store, order_key):
    order = WorkOrder.model_validate_json(store.get(order_key))
    return [keys.result(shard.result) for shard in order.shards]


def test_a_cluster_computes_what_threads_compute(order_key, up_store, scheduler, tmp_path):
    results = results_of(up_store, order_key)
    by_threads = [up_store.get(key) for key in results]
    for key in results:
        up_store.delete(key)
    receipt = infer_shards(order_key, tmp_path, up_store.bucket, scheduler)
    assert receipt.computed_results == len(results)
    assert receipt.reused_results == 0
    assert [up_store.get(key) for key in results] == by_threads


def test_an_order_done_twice_changes_nothing(order_key, up_store, tmp_path):
    results = results_of(up_store, order_key)
    before = [up_store.get(key) for key in results]
    first = infer_shards(order_key, tmp_path, up_store.bucket)
    second = infer_shards(order_key, tmp_path, up_store.bucket)
    assert first.computed_results == second.computed_results == 0
    assert first.escalated == second.escalated
    assert second.reused_results == len(results)
    assert [up_store.get(key) for key in results] == before


def test_a_failure_on_the_cluster_arrives_as_itself(order_key, up_store, scheduler, tmp_path):
    order = WorkOrder.model_validate_json(up_store.get(order_key))
    wrong = order.shards[0].model_copy(update={"digest": "0" * 64, "result": "f" * 64})
    key = "runs/test/orders/wrong.json"
    up_store.put(key, order.model_copy(update={"shards": (wrong,)}).model_dump_json().encode())
    with pytest.raises(CorruptObject, match=order.shards[0].key):
        infer_shards(key, tmp_path, up_store.bucket, scheduler)
    assert not up_store.exists(keys.result("f" * 64))


def test_a_scheduler_without_workers_is_an_error_not_a_wait(monkeypatch):
    monkeypatch.setattr(compute, "WORKER_SECONDS", 1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as cluster,
        pytest.raises(SiteFailed, match="has no worker"),
    ):
        compute.map_blocks(abs, [-1], threads=1, address=cluster.scheduler_address, done=print)


ALONE = 3  # blocks that the first worker does before another has to help


def commit(block: tuple[Path, int]) -> int:
    """A block that is committed as a file by the process that did it; the first process hangs until another has done one."""
    folder, number = block
    mine = folder / str(os.getpid())
    mine.mkdir(exist_ok=True)
    until = time.monotonic() + 120
    while len([*mine.iterdir()]) >= ALONE and len([*folder.glob("*/*")]) == ALONE and time.monotonic() < until:
        time.sleep(0.05)
    (mine / str(number)).touch()
    return number


def test_a_worker_that_joins_in_mid_run_gets_work(tmp_path):
    """Blocks wait at the scheduler, not at the workers, so that one who comes late finds some."""
    came: list[int] = []
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as cluster:

        def note(number: int) -> None:
            came.append(number)
            if len(came) == ALONE:
                cluster.scale(2)

        blocks = [(tmp_path, number) for number in range(60)]
        compute.map_blocks(commit, blocks, threads=1, address=cluster.scheduler_address, done=note)
    assert sorted(came) == list(range(60))
    done = {folder.name: {int(path.name) for path in folder.iterdir()} for folder in tmp_path.iterdir()}
    assert len(done) == 2, "the one who was there and the one who joined"
    assert set.union(*done.values()) == set(range(60))
    assert sum(len(blocks) for blocks in done.values()) == 60, "each block once"
    assert min(len(blocks) for blocks in done.values()) >= 1


def test_an_address_that_is_none():
    with pytest.raises(SettingError, match="CLOUDEDGE_DASK"):
        compute.map_blocks(abs, [-1], threads=1, address="nonsense://x", done=print)
