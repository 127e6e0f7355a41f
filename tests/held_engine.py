"""Prefect's engine for one flow run, in which no shard is read before a file is there; beside it a mark says that it waits.

python -m tests.held_engine FILE
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from infra import engine

READ = engine.Block.read


def held_read(block, shard):
    """As `Block.read`, but not yet."""
    mark(FILE).touch()
    while not FILE.exists():
        time.sleep(0.05)
    return READ(block, shard)


def mark(file: Path) -> Path:
    """What is there once the flow run waits for the file."""
    return file.with_suffix(".held")


if __name__ == "__main__":
    FILE = Path(sys.argv.pop(1))
    engine.Block.read = held_read
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
