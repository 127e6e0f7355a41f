"""A share of a core for a process and its threads: by a control group, or by stopping and continuing it in turn."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from infra.workspace import lives

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path("/sys/fs/cgroup")
PREFIX = "cloudedge-"
PERIOD = 10_000  # microseconds of a control group's accounting, where its quota is at least
LEAST_QUOTA = 1_000
TURN_SECONDS = 0.05  # of being stopped and continued


def group_root() -> Path | None:
    """Where control groups with processor shares can be made; None if nowhere."""
    for root in (ROOT, ROOT / "cpu"):
        probe = root / f"{PREFIX}{os.getpid()}-probe"
        try:
            probe.mkdir()
        except OSError:
            continue
        works = (probe / "cpu.max").exists() or (probe / "cpu.cfs_quota_us").exists()
        probe.rmdir()
        if works:
            return root
    return None


def make_group(root: Path, name: str) -> Path:
    """A control group of that name; the processes whose numbers are written to its `cgroup.procs` are in it."""
    group = root / f"{PREFIX}{os.getpid()}-{name}"
    group.mkdir(exist_ok=True)
    return group


def limit(group: Path, share: float | None) -> None:
    """Let all processes of a group have so many cores together; None: as many as there are."""
    period = max(PERIOD, int(LEAST_QUOTA / share)) if share else PERIOD
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{int(period * share)} {period}" if share else "max")
        return
    (group / "cpu.cfs_quota_us").write_text("-1")
    (group / "cpu.cfs_period_us").write_text(str(period))
    if share:
        (group / "cpu.cfs_quota_us").write_text(str(max(LEAST_QUOTA, int(period * share))))


def cores(shares: Mapping[str, float]) -> dict[str, int]:
    """A core for each site, so that what they all take of one is about as much as of another; largest shares first."""
    taken = dict.fromkeys(sorted(os.sched_getaffinity(0)), 0.0)
    found = {}
    for name in sorted(shares, key=lambda name: -shares[name]):
        found[name] = min(taken, key=lambda core: taken[core])
        taken[found[name]] += shares[name]
    return found


def pin(pid: int, core: int | None) -> None:
    """Keep all threads of a process on one core; None: on any. No error if it has ended."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), os.sched_getaffinity(0) if core is None else {core})


def remove_group(group: Path) -> None:
    """Remove a group whose processes have ended; no error if it is not there, or if one lives still."""
    for _ in range(20):
        with suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.05)


def sweep(root: Path) -> None:
    """Remove the groups of laboratories that are gone."""
    for group in root.glob(f"{PREFIX}*"):
        if not lives(group.name.removeprefix(PREFIX).partition("-")[0]):
            remove_group(group)


def take_turns(pid: Callable[[], int | None], share: Callable[[], float | None]) -> Callable[[], None]:
    """Stop and continue a process, so that it runs for a share of the time; for where there are no control groups.

    Args:
        pid: which one now; None: none.
        share: of the time, 1 or None: always.

    Returns:
        What ends it.
    """
    ended = threading.Event()

    def turn() -> None:
        while not ended.is_set():
            now, part = pid(), min(1.0, share() or 1.0)
            with suppress(ProcessLookupError, TypeError):
                if part < 1 and now:
                    os.kill(now, signal.SIGSTOP)
                    ended.wait(TURN_SECONDS * (1 - part))
                    os.kill(now, signal.SIGCONT)
            ended.wait(TURN_SECONDS * part)

    thread = threading.Thread(target=turn, name="take-turns", daemon=True)
    thread.start()
    return ended.set
