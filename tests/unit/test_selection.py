"""Tests that take long are left out only of a run of everything, and that is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def collected(*arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *arguments,
        "tests/chaos",
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_kind_that_is_asked_for_is_run_whole():
    said = collected("-m", "chaos")
    files = {path.name for path in (ROOT / "tests" / "chaos").glob("test_*.py")}
    assert {line.partition("::")[0].rpartition("/")[2] for line in said.splitlines() if "::" in line} == files
    assert "left out" not in said


def test_what_is_left_out_is_named():
    said = collected()
    assert "test_random_moments.py::" in said
    assert "test_outage.py::" not in said
    assert "left out, as they take long: test_agreement.py, test_deployed_runs.py, test_kill.py, " in said
