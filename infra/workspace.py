"""A run's own folder on this machine: downloads, spools and files that are built before they are stored.

Two runs of one home never write one file. What a killed run left behind, the next one removes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_catalog.errors import StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def workspace(home: Path) -> Iterator[Path]:
    """A new folder under `home`, removed at the end.

    Raises:
        StoreFull: it cannot be made.
    """
    parent = home / "work"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for old in parent.iterdir():
            if not lives(old.name.partition("-")[0]):
                shutil.rmtree(old, ignore_errors=True)
        folder = parent / tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent)
    except OSError as error:
        raise StoreFull(f"{parent} cannot be written ({error}); free some space or set CLOUDEDGE_HOME") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lives(pid: str) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
