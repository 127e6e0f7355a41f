"""Progress while the user waits: stages publish, whoever shows it (the terminal) listens."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_catalog.nouns import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage of one site is: `done` of `total` units."""

    stage: str
    site: str
    done: int
    total: int
    unit: str


_listeners: list[Callable[[Progress], None]] = []
_lock = threading.Lock()


def publish(stage: str, site: str, done: int, total: int, unit: str = "shards") -> None:
    """Tell all listeners; safe from any thread, cheap when nobody listens."""
    with _lock:
        for listener in _listeners:
            listener(Progress(stage, site, done, total, unit))


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Call `listener` on every progress until the block ends."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


class Stopwatch:
    """Wall-clock time by stage, for the report and its timeline; safe from any thread."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.started = time.time()

    @contextmanager
    def stage(self, stage: str, site: str = "coordinator") -> Iterator[None]:
        """Record how long the block takes, also if it fails."""
        publish(stage, site, 0, 0, "")
        begun = time.time()
        try:
            yield
        finally:
            self.spans.append(Span(stage=stage, site=site, start=begun, end=time.time()))

    def seconds(self) -> dict[str, float]:
        """From the first beginning to the last end of each stage."""
        totals: dict[str, tuple[float, float]] = {}
        for span in self.spans:
            first, last = totals.get(span.stage, (span.start, span.end))
            totals[span.stage] = (min(first, span.start), max(last, span.end))
        return {stage: last - first for stage, (first, last) in totals.items()}
