"""The only module that knows Dask: blocks of shards in parallel, by threads in this process or on a cluster.

Inside one Prefect task: a task run costs the orchestrator tens of milliseconds, a block here under two.
Threads are Dask's own threaded scheduler, which costs nothing to start; a cluster is reached by its address.
There `allowed-failures` is 1, so a block that kills its worker fails by itself and takes no other block along.
Results go to the store, never through the scheduler.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from data_catalog.errors import SiteFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Block = TypeVar("Block")
Done = TypeVar("Done")

_CLUSTER = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.no-workers-timeout": "60s",
    "distributed.admin.tick.limit": "60s",
    "logging.distributed": "error",
}


def map_blocks(
    function: Callable[[Block], Done],
    blocks: Sequence[Block],
    *,
    threads: int,
    address: str | None = None,
    done: Callable[[Done], None],
) -> None:
    """Run `function` on every block and hand each answer to `done` as it comes, one at a time.

    Args:
        function: importable by name where the cluster's workers run.
        blocks: pickled to a cluster's workers: references, not data.
        threads: how many at a time in this process; a cluster uses what it has.
        address: of a Dask scheduler; None: threads in this process.
        done: called in this process, once a block.

    Raises:
        Exception: what the first failing block raised; blocks that were not begun are not begun any more.
        SiteFailed: the scheduler cannot be reached, or a block killed its worker twice.
    """
    if not blocks:
        return
    if address:
        _on_cluster(function, blocks, address, done)
    else:
        _in_threads(function, blocks, threads, done)


def _in_threads(
    function: Callable[[Block], Done], blocks: Sequence[Block], threads: int, done: Callable[[Done], None]
) -> None:
    from dask.threaded import get

    one_at_a_time, stop = threading.Lock(), threading.Event()

    def run(number: int) -> None:
        if stop.is_set():  # Dask has handed the other blocks to the pool before it hears of a failure
            return
        try:
            answer = function(blocks[number])
            with one_at_a_time:
                done(answer)
        except BaseException:
            stop.set()
            raise

    graph = {f"block-{number}": (run, number) for number in range(len(blocks))}
    get(graph, list(graph), num_workers=threads)


def _on_cluster(
    function: Callable[[Block], Done], blocks: Sequence[Block], address: str, done: Callable[[Done], None]
) -> None:
    import dask
    from distributed import Client, KilledWorker, as_completed

    with dask.config.set(_CLUSTER):
        try:
            client = Client(address, timeout="10s", set_as_default=False)
        except OSError as error:
            raise SiteFailed(
                f"the Dask scheduler at {address} gave no answer; start it, or unset CLOUDEDGE_DASK to use threads"
            ) from error
        with client, client.as_current():
            futures = client.map(function, blocks, pure=False, retries=0)
            try:
                for future in as_completed(futures):
                    done(future.result())
                    future.release()
            except KilledWorker as error:
                raise SiteFailed(
                    f"a block of shards killed its Dask worker ({error}); look at that worker's log"
                ) from error
            finally:
                client.cancel(futures, force=True)
