"""The only module that knows Dask: blocks of shards in parallel, in this process or on a cluster.

Plain futures inside one Prefect task: a task run costs the orchestrator tens of milliseconds, a future
under two. `allowed-failures` is 1, so a block that kills its worker fails by itself and takes no other
block along; results go to the store, never through the scheduler.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from data_catalog.errors import SiteFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Block = TypeVar("Block")
Done = TypeVar("Done")

_CONFIG = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.no-workers-timeout": "60s",
    "distributed.worker.daemon": False,
    "logging.distributed": "error",
    "distributed.admin.tick.limit": "60s",
}


@contextmanager
def _client(address: str | None, threads: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set(_CONFIG):
        if address:
            try:
                client = Client(address, timeout="10s", set_as_default=False)
            except OSError as error:
                raise SiteFailed(
                    f"the Dask scheduler at {address} gave no answer; start it, or unset CLOUDEDGE_DASK to use threads"
                ) from error
            with client:
                yield client
        else:
            with (
                LocalCluster(
                    n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None,
                    host="127.0.0.1", protocol="inproc://", memory_limit=0, silence_logs=False,
                ) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):  # fmt: skip
                yield client


def map_blocks(
    function: Callable[[Block], Done],
    blocks: Sequence[Block],
    *,
    threads: int,
    address: str | None = None,
    done: Callable[[Done], None],
) -> None:
    """Run `function` on every block and hand each answer to `done` as it comes.

    Args:
        function: importable by name where the cluster's workers run.
        blocks: pickled to the workers: references, not data.
        threads: how many at a time in this process; a cluster uses what it has.
        address: of a Dask scheduler; None: threads in this process.
        done: called here, once a block.

    Raises:
        Exception: what the first failing block raised; blocks that were not begun are cancelled.
        SiteFailed: the scheduler cannot be reached, or a block killed its worker twice.
    """
    if not blocks:
        return
    from distributed import KilledWorker, as_completed

    with _client(address, threads) as client:
        futures = client.map(function, blocks, pure=False, retries=0)
        try:
            for future in as_completed(futures):
                done(future.result())
                future.release()
        except KilledWorker as error:
            raise SiteFailed(f"a block of shards killed its Dask worker ({error}); look at that worker's log") from error
        finally:
            client.cancel(futures, force=True)
