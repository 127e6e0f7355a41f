"""What `cloudedge up` leaves running: holds the two servers, and the worker of the deployments, until SIGTERM.

One that ends is started again where it was, because runs wait for it; one that ends again and again takes all down.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from data_catalog.errors import CloudEdgeError, StackError
from infra import settings
from infra.settings import Settings, read_settings
from infra.stack import servers

if TYPE_CHECKING:
    import subprocess

LOOK_SECONDS = 0.5
MOST_ENDS, WITHIN_SECONDS = 5, 300.0  # of one program, before it is given up
# A worker that asks every ten seconds, as is usual, is what a dispatch mostly waits for.
WORKER_VARIABLES = {"PREFECT_WORKER_QUERY_SECONDS": "1"}


def pools_file(home: Path) -> Path:
    """Names the work pools that this stack's workers serve, a line each; `cloudedge deploy` writes it."""
    return home / "pools"


def main() -> int:
    """Run the stack of the settings' home folder."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    found = read_settings()
    try:
        with servers.locked(found.home), servers.running(found, usual_port=True) as up:
            up.wait()
            servers.write_state(found.home, up.state)
            try:
                ends: dict[str, list[float]] = {}
                while not stop.wait(LOOK_SECONDS):
                    _start_workers(up, found)
                    if name := up.dead():
                        _start_again(up, found, name, ends.setdefault(name, []))
            finally:
                (found.home / "stack.json").unlink(missing_ok=True)
    except CloudEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _start_again(up: servers.Running, found: Settings, name: str, ends: list[float]) -> None:
    """Start a program that has ended again.

    Raises:
        StackError: it has ended too often.
    """
    now = time.monotonic()
    ends[:] = [end for end in ends if now - end < WITHIN_SECONDS] + [now]
    sys.stderr.write(f"{name} ended; it is started again; its log is {up.log(name)}\n")
    sys.stderr.flush()
    if len(ends) > MOST_ENDS:
        raise StackError(f"{name} ended {len(ends)} times in {WITHIN_SECONDS:.0f} s; its log is {up.log(name)}")
    if name in {"s3", "prefect"}:
        servers.restart(up, name)
    else:
        up.processes[name] = _start_worker(up, found, name.removeprefix("worker-"))


def _start_workers(up: servers.Running, found: Settings) -> None:
    """A worker for each pool that was deployed to and has none yet."""
    try:
        pools = pools_file(found.home).read_text().split()
    except OSError:
        return
    for pool in pools:
        if f"worker-{pool}" not in up.processes:
            up.processes[f"worker-{pool}"] = _start_worker(up, found, pool)


def _start_worker(up: servers.Running, found: Settings, pool: str) -> subprocess.Popen[bytes]:
    """Prefect's process worker. It leaves a flow run in an empty folder, with the installed package."""
    command = [
        sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process",
        "--name", socket.gethostname(), "--install-policy", "never",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{settings.inherited().get('PATH', os.defpath)}"  # its runs start `python`: this one
    variables = (
        servers.variables(up.state, found) | WORKER_VARIABLES | {"CLOUDEDGE_HOME": str(found.home), "PATH": path}
    )
    # A program that ignores SIGINT makes Prefect's worker ignore SIGTERM too.
    return servers.spawn(command, variables, up.log(f"worker-{pool}"), on_interrupt=signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
