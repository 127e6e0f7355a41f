"""A coordinator that does nothing but write: started by the tests of agreement, stopped, continued and killed by them.

Each write is admitted, then made, then noted as a line of the history: token, place in the line of all, when its
admission began and ended (one clock for all processes of a machine), and the key.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from data_catalog.errors import Conflict
from infra import coordination, keys
from infra.settings import read_settings
from infra.storage import open_store

WHAT = "runs-of-demo"
PAUSE = 0.02  # between a write's admission and the write: a good moment to be stopped


def work(history: Path) -> None:
    """Become the coordinator, write until another one is, and again."""
    settings, store = read_settings(), open_store()
    with history.open("a", buffering=1) as lines:
        while True:
            try:
                with coordination.coordinating(settings, WHAT, f"of-{os.getpid()}") as run_id:
                    for number in range(10**6):
                        key, began = keys.run(run_id, "orders", f"{number}.json"), time.monotonic()
                        beat, admitted = coordination.admit(run_id), time.monotonic()
                        time.sleep(PAUSE)
                        store.put(key, f"{run_id} {number}".encode())
                        token = int(run_id.rpartition("-")[2])
                        line = {
                            "pid": os.getpid(),
                            "token": token,
                            "beat": beat,
                            "key": key,
                            "text": f"{run_id} {number}",
                        }
                        lines.write(json.dumps(line | {"began": began, "admitted": admitted}) + "\n")
            except Conflict:
                time.sleep(0.1)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
