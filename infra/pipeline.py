"""Overlapped stages with bounded queues: while one item is computed, the next is fetched and the last stored.

Each stage is one thread; a queue of `depth` items stands between two of them, so memory is bounded by
`stages * (depth + 1) + 1` items however many there are. The stages here release the GIL in their heavy parts
(network, decompression, hashing, inference), so threads overlap for real.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from data_catalog.errors import BadInput, CloudEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Item = TypeVar("Item")
Done = TypeVar("Done")

LATE = "no answer by the deadline"
_END = object()
_POLL_SECONDS = 0.5  # a slow machine has better things to do than to look often


@dataclass(slots=True)
class StageTimes:
    """Busy seconds of one stage and when it first began and last ended (epoch)."""

    name: str
    busy: float = 0.0
    start: float = field(default=float("inf"))
    end: float = 0.0


def run_stages(
    items: Iterable[Any], stages: Sequence[tuple[str, Callable[[Any], Any]]], *, depth: int = 2
) -> tuple[list[Any], list[StageTimes]]:
    """Send every item through all stages, in order.

    Args:
        items: what the first stage gets, one at a time.
        stages: names and functions; each gets what the one before returned.
        depth: items that may wait between two stages.

    Returns:
        What the last stage returned, in the items' order, and each stage's times.

    Raises:
        Exception: the first one that a stage raised; no further item is begun, all threads have ended.
    """
    queues: list[queue.Queue[Any]] = [queue.Queue(depth) for _ in stages]
    stop = threading.Event()
    failures: list[BaseException] = []
    results: list[Any] = []
    times = [StageTimes(name) for name, _ in stages]

    def put(target: queue.Queue[Any], item: Any) -> bool:
        while not stop.is_set():
            try:
                target.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def get(source: queue.Queue[Any]) -> Any:
        while not stop.is_set():
            try:
                return source.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        return _END

    def work(position: int) -> None:
        clock = times[position]
        function = stages[position][1]
        try:
            while (item := get(queues[position])) is not _END:
                begun = time.time()
                done = function(item)
                ended = time.time()
                clock.busy += ended - begun
                clock.start, clock.end = min(clock.start, begun), ended
                if position + 1 == len(stages):
                    results.append(done)
                elif not put(queues[position + 1], done):
                    return
            if position + 1 < len(stages):
                put(queues[position + 1], _END)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [
        threading.Thread(target=work, args=(position,), name=f"stage-{name}", daemon=True)
        for position, (name, _) in enumerate(stages)
    ]
    for thread in threads:
        thread.start()
    try:
        for item in items:
            if not put(queues[0], item):
                break
        put(queues[0], _END)
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        for thread in threads:  # the items themselves may have failed
            thread.join()
    if failures:
        raise failures[0]
    return results, times


def side_by_side(function: Callable[[Item], Done], items: Sequence[Item]) -> list[Done]:
    """Call the function on all items at once, a thread each, in the caller's context (its flow run).

    Returns:
        What it returned, in the items' order.

    Raises:
        Exception: what the first failing item raised, when all others have ended: none is cut short.
    """
    if not items:
        return []
    executor = ThreadPoolExecutor(len(items), thread_name_prefix="side-by-side")
    try:
        futures = [executor.submit(contextvars.copy_context().run, function, item) for item in items]
        wait(futures)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for the others
    return [future.result() for future in futures]


def as_far_as(
    function: Callable[[Item], Done], items: Sequence[Item], deadline: float | None, *, forgiving: bool = False
) -> tuple[list[Done], dict[Item, str]]:
    """Call the function on all items at once, and go on without those that fail or are late, if that is wanted.

    Args:
        function: called as by `side_by_side`.
        items: what it gets.
        deadline: epoch seconds until which it is waited for; what failed or is late then is left. None: as `side_by_side`.
        forgiving: without a deadline too, what failed is left.

    Returns:
        What it returned, in the items' order, and by item why there is no answer, in a line.

    Raises:
        BadInput: in any case: the user can mend it.
        Exception: without a deadline and not forgiving what the first failing item raised; else what is not our error.
    """

    def attempt(item: Item) -> Done | CloudEdgeError:
        try:
            return function(item)
        except BadInput:
            raise
        except CloudEdgeError as error:
            if deadline is None and not forgiving:
                raise
            return error

    tried: list[Done | CloudEdgeError | Exception]
    if deadline is None:
        tried = list(side_by_side(attempt, items))
    elif (seconds := deadline - time.time()) > 0:
        tried = list(in_time(attempt, items, seconds))
    else:
        tried = [TimeoutError() for _ in items]
    done: list[Done] = []
    left: dict[Item, str] = {}
    for item, answer in zip(items, tried, strict=True):
        if isinstance(answer, TimeoutError):
            left[item] = LATE
        elif isinstance(answer, CloudEdgeError) and not isinstance(answer, BadInput):
            left[item] = str(answer)
        elif isinstance(answer, Exception):
            raise answer
        else:
            done.append(answer)
    return done, left


def in_time(function: Callable[[Item], Done], items: Sequence[Item], seconds: float) -> list[Done | Exception]:
    """Call the function on all items at once, as `side_by_side`, and wait for a bounded time.

    Returns:
        In the items' order what it returned or raised; TimeoutError for one that did not end in time. That one's
        thread is left to itself: nothing can end it, so whatever it does late must do no harm.
    """
    answers: list[Done | Exception] = [TimeoutError(f"no answer within {seconds:g} s") for _ in items]

    def call(position: int) -> None:
        try:
            answers[position] = function(items[position])
        except Exception as error:
            answers[position] = error

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(call, position), name="in-time", daemon=True)
        for position in range(len(items))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return answers.copy()  # what comes later changes nothing
