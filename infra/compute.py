"""The only module that knows Dask: blocks of shards in parallel, by threads in this process or on a cluster.

Inside one Prefect task: a task run costs the orchestrator tens of milliseconds, a block here under two.
Threads are Dask's own threaded scheduler, which costs nothing to start; a cluster is reached by its address.
A cluster's scheduler is best started with `DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=1`, so that a block which
kills its worker is tried once more, not three times. Results go to the store, never through the scheduler.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from data_catalog.errors import SettingError, SiteFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Block = TypeVar("Block")
Done = TypeVar("Done")

WORKER_SECONDS = 30  # how long a scheduler may be without a worker


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
    from distributed import Client, KilledWorker, as_completed

    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (ValueError, TypeError) as error:
        raise SettingError(
            f"CLOUDEDGE_DASK={address!r} is no address of a scheduler ({error}); write tcp://host:8786"
        ) from error
    except OSError as error:
        raise SiteFailed(
            f"the Dask scheduler at {address} gave no answer; start it, or unset CLOUDEDGE_DASK to use threads"
        ) from error
    with client, client.as_current():
        try:
            client.wait_for_workers(1, WORKER_SECONDS)
        except TimeoutError as error:
            raise SiteFailed(
                f"the Dask scheduler at {address} has no worker; start one: dask worker {address}"
            ) from error
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
