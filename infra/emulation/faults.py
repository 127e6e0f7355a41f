"""Faults of emulated sites, at their times: a link that is cut, a process killed, a site slowed down, a byte flipped."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from infra.emulation.world import Emulated
    from infra.storage import Store


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a site, when (seconds after the first answers begin), for how long, and how much."""

    kind: str  # `cut`, `kill`, `slow` or `corrupt`
    site: str
    at: float
    lasts: float | None = None
    factor: float = 1.0

    def __str__(self) -> str:
        """As a person writes it."""
        lasts = f"+{self.lasts:g}s" if self.lasts is not None else ""
        return f"{self.kind} {self.site}@{self.at:g}s{lasts}" + (f"/{self.factor:g}" if self.kind == "slow" else "")


def steps(fault: Fault, site: Emulated, store: Store) -> list[tuple[float, Callable[[], None]]]:
    """What is to be done for a fault, and when; what begins and lasts ends."""
    after = fault.at + (fault.lasts or 0.0)
    if fault.kind == "cut":
        return [(fault.at, lambda: site.cut(off=True)), (after, lambda: site.cut(off=False))]
    if fault.kind == "kill":
        return [(fault.at, site.kill), *([(after, site.start)] if fault.lasts is not None else [])]
    if fault.kind == "slow":
        share = site.spec.share
        end = [(after, lambda: site.set_share(share))] if fault.lasts is not None else []
        return [(fault.at, lambda: site.set_share(share / fault.factor)), *end]
    return [(fault.at, lambda: flip(site, store))]


def flip(site: Emulated, store: Store) -> None:
    """Flip a byte of the shard that the site would read last, on its own disk, or else in the store."""
    from data_catalog.nouns import WorkOrder

    orders = [key for key in store.keys("runs") if key.endswith(f"/orders/{site.spec.name}.json")]
    if not orders:
        return
    order = WorkOrder.model_validate_json(store.get(max(orders)))
    for shard in reversed(order.shards):
        path = site.home / "sites" / site.spec.name / "premises" / shard.key
        if path.is_file() and not store.exists(keys.result(shard.result)):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
            return


@contextmanager
def inflict(
    faults: Sequence[Fault], sites: Mapping[str, Emulated], store: Store, begun: threading.Event
) -> Iterator[None]:
    """Inflict faults in a thread while the block runs; at its end every site is as it should be.

    Args:
        faults: which.
        sites: by name.
        store: for what is flipped there.
        begun: set when the clock is to start.
    """
    if not faults:
        yield
        return
    over = threading.Event()
    todo = sorted(
        ((at, act) for fault in faults for at, act in steps(fault, sites[fault.site], store)), key=lambda step: step[0]
    )

    def go() -> None:
        while not begun.wait(0.05):
            if over.is_set():
                return
        start = time.monotonic()
        for at, act in todo:
            over.wait(max(0.0, start + at - time.monotonic()))
            act()  # also when the run is over: what was cut is mended

    thread = threading.Thread(target=go, name="faults", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for fault in faults:  # one that was killed for good
            if sites[fault.site].process is None:
                sites[fault.site].start()
