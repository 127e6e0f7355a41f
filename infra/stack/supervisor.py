"""What `cloudedge up` leaves running: holds the two servers until SIGTERM, or until one of them ends."""

from __future__ import annotations

import signal
import sys
import threading

from data_catalog.errors import CloudEdgeError
from infra.settings import read_settings
from infra.stack import servers


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
                while not stop.wait(0.5):
                    if dead := up.dead():
                        sys.stderr.write(f"{dead} ended; its log is {up.log(dead)}\n")
                        return 1
            finally:
                (found.home / "stack.json").unlink(missing_ok=True)
    except CloudEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
