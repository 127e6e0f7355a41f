"""One coordinator at a time: what it writes for a run is admitted by its lease first, where several are configured.

With one, the default, there may still be several processes of one home: a command and a worker's flow runs. They take
turns. What is agreed, and what a paused coordinator can still do, is in `docs/agreement.md`.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from data_catalog.errors import Conflict, SettingError, StoreFull
from infra.agreement import AGREEMENTS
from infra.agreement._lease import Lease
from infra.progress import publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.settings import Settings
    from infra.storage import Store

LOOK_SECONDS = 0.2  # between two looks whether it is this process's turn
_held: dict[str, Lease] = {}  # by what was coordinated: a run's id, a folder


@contextmanager
def coordinating(
    settings: Settings, what: str, name: str, *, fresh: bool = True, until: float | None = None
) -> Iterator[str]:
    """Be the only coordinator of `what` in this block; gives the name to write under.

    Another process of this home is waited for. Where several coordinators are configured, another one is not.

    Args:
        settings: say how many coordinators there are and how they agree.
        what: is coordinated, in words that make a key, such as `runs-of-mnist-5k`.
        name: of what is written: a run's id, or a folder.
        fresh: whether the name is a new one. Then the token becomes its end, so that no other coordinator ever
            writes under it; else it stays, and a write that was admitted to a former holder may land late.
        until: epoch seconds until which another process of this home is waited for; None: as long as it takes.

    Raises:
        SettingError: several are configured, and there is no way to agree.
        Conflict: another one coordinates it: of several that are configured, or of this home and still so `until` then.
        StoreFull: the home cannot be written.
        StoreError: the register gave no answer.
    """
    if settings.coordinators == 1:
        with _turn(settings.home / "coordinating", what, until):
            yield name
        return
    lease = Lease(AGREEMENTS.get(way(settings), "CLOUDEDGE_AGREEMENT").connect(settings), what, settings.lease_seconds)
    token = lease.take()
    named = f"{name}-{token:06d}" if fresh else name
    _held[named] = lease
    try:
        yield named
    finally:
        del _held[named]
        lease.release()


@contextmanager
def _turn(folder: Path, what: str, until: float | None) -> Iterator[None]:
    """Wait until no other process of the home is in such a block; the kernel frees it when its holder dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{what}.lock").open("a")
    except OSError as error:
        raise StoreFull(f"{folder} cannot be written ({error}); free some space or set CLOUDEDGE_HOME") from error
    with file:
        if not _taken(file):
            publish("wait for another run", "coordinator", 0, 0, "")
            while not _taken(file):
                if until is not None and time.time() > until:
                    raise Conflict(f"another run ({what}) is still at work at the deadline; run again when it is done")
                time.sleep(LOOK_SECONDS)
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def way(settings: Settings) -> str:
    """How coordinators agree: as is set, else over etcd if it is named, else over the store."""
    chosen = settings.agreement or ("etcd" if settings.etcd_urls else "s3")
    if chosen not in AGREEMENTS.names():
        raise SettingError(f"CLOUDEDGE_AGREEMENT={chosen!r} is none of {', '.join(AGREEMENTS.names())}")
    return chosen


def admit(name: str) -> int:
    """The place of the next write under this name in the line of all coordinators' writes; 0 where one is configured.

    Raises:
        Conflict: another one is the coordinator by now; nothing must be written.
        StoreError: the register gave no answer; nothing must be written.
    """
    return _held[name].admit() if name in _held else 0


def put(store: Store, name: str, key: str, data: bytes) -> None:
    """Store an object of what this process coordinates.

    Args:
        store: where it goes.
        name: as `coordinating` gave it: of a run, its id.
        key: of the object.
        data: its content.

    Raises:
        Conflict: another one is the coordinator by now; nothing is written.
        StoreError: the register or the store failed.
    """
    admit(name)
    store.put(key, data)
