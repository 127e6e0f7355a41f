"""The only module that knows Dask: blocks of shards or records in parallel, by threads here or on a cluster.

Inside one Prefect task: a task run costs the orchestrator tens of milliseconds, a block here under two.
Threads are Dask's own threaded scheduler, which costs nothing to start; a cluster is reached by its address.
A cluster's scheduler is best started with `DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=1`, so that a block which
kills its worker is tried once more, not three times. Results go to the store, never through the scheduler.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

from data_catalog.errors import SettingError, SiteFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Block = TypeVar("Block")
Done = TypeVar("Done")

ROUND = 2  # blocks for each thread in a round of `map_stream`
WORKER_SECONDS = 30  # how long a scheduler may be without a worker


def map_blocks(
    function: Callable[[Block], Done],
    blocks: Sequence[Block],
    *,
    threads: int,
    address: str | None = None,
    done: Callable[[Done], None],
) -> None:
    """Run `function` on every block, begun in their order, and hand each answer to `done` as it comes, one at a time.

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


def map_stream(function: Callable[[Block], Done], blocks: Iterable[Block], *, threads: int) -> Iterator[Done]:
    """The answers of `function` to a stream of blocks, in the order of the blocks, in bounded memory.

    Rounds of `ROUND` blocks a thread go through Dask's threaded scheduler. Of the same graph is the reading of the
    next round, and a round runs while the answers of the last are used, so that neither waits for the other. At most
    three rounds are in memory: one being read, one computed, one used. With one thread nothing is done ahead.

    Args:
        function: of one block alone; several calls run at a time.
        blocks: read by one thread at a time, not necessarily the caller's.
        threads: how many blocks are computed at a time.

    Raises:
        Exception: what `function` or `blocks` raised first, in the order of the blocks, after the answers before it.
    """
    if threads == 1:
        yield from map(function, blocks)
        return
    from dask.threaded import get

    source, size = iter(blocks), ROUND * threads

    broken: list[Exception] = []  # what ended the reading

    def one_round(waiting: list[Block]) -> tuple[list[tuple[Done | None, Exception | None]], list[Block]]:
        def run(number: int) -> tuple[Done | None, Exception | None]:
            try:
                return function(waiting[number]), None
            except Exception as error:
                return None, error

        def read() -> list[Block]:
            following: list[Block] = []
            try:
                following.extend(islice(source, 0 if broken else size))
            except Exception as error:
                broken.append(error)
            return following

        graph = {"next": (read,)} | {f"block-{number}": (run, number) for number in range(len(waiting))}
        following, *answers = get(graph, list(graph), pool=pool)
        return answers, following

    with ThreadPoolExecutor(threads + 1, "preprocess") as pool, ThreadPoolExecutor(1, "rounds") as ahead:
        running = ahead.submit(one_round, [])
        while True:
            answers, following = running.result()
            if following:
                running = ahead.submit(one_round, following)
            for answer, error in answers:
                if error:
                    raise error
                yield cast("Done", answer)
            if not following:
                break
    if broken:
        raise broken[0]


def _in_threads(
    function: Callable[[Block], Done], blocks: Sequence[Block], threads: int, done: Callable[[Done], None]
) -> None:
    from dask.threaded import get

    one_at_a_time, stop = threading.Lock(), threading.Event()
    in_order = iter(blocks)  # Dask begins with whichever it likes, as it seems the last

    def run(_: int) -> None:
        if stop.is_set():  # Dask has handed the other blocks to the pool before it hears of a failure
            return
        try:
            with one_at_a_time:
                block = next(in_order)
            answer = function(block)
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
