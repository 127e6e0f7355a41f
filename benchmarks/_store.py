"""The local S3 server that benchmarks measure with, whatever is configured."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks._results import ROOT
from infra.settings import read_settings
from infra.stack import using_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = ROOT / ".cloudedge" / "bench"


@contextmanager
def local_store(home: Path = HOME) -> Iterator[None]:
    """Start the server in that home, without Prefect's, and make it what the settings name."""
    for name in ("CLOUDEDGE_BUCKET", "AWS_ENDPOINT_URL"):
        os.environ.pop(name, None)
    os.environ |= {"CLOUDEDGE_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    with using_stack(read_settings()):
        yield
