"""A codec from outside needs nothing but its entry point: the suite finds it through the registry.

This file is the plug-in: `compress` and `decompress` below are the toy, and the tests name this very file in the
metadata of a made-up package, as `pip install` would. They then run `test_codecs.py` as it stands.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.codecs import Tensor
from infra.codecs._frame import exactly, seal, unseal
from infra.testing import codec_suite

pytestmark = pytest.mark.conformance

ROOT = Path(__file__).parents[2]
TURN = bytes(range(255, -1, -1))


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """Each byte's complement, in the frame that gives size and checksum."""
    return seal(len(data), data.translate(TURN))


def decompress(data: bytes, size: int) -> bytes:
    """The inverse."""
    return exactly(unseal(data, size).translate(TURN), size)


BROKEN = """
def compress(data, tensor=None):
    return data + b"."
def decompress(data, size):
    return data[:size]
"""


def run_suite(packages: Path, module: str) -> subprocess.CompletedProcess[str]:
    """`pytest tests/conformance/test_codecs.py` where a package with the codec `toy` is installed."""
    info = packages / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cloudedge.codecs]\ntoy = {module}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "[toy-", "tests/conformance/test_codecs.py"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{packages}:{ROOT}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_suite_picks_up_a_toy_codec_of_a_test_file(tmp_path):
    done = run_suite(tmp_path, "tests.conformance.test_toy_codec")
    assert done.returncode == 0, done.stdout
    assert f"{len(codec_suite.CHECKS)} passed" in done.stdout


def test_the_suite_finds_a_codec_that_does_not_refuse(tmp_path):
    (tmp_path / "broken_toy.py").write_text(BROKEN)
    done = run_suite(tmp_path, "broken_toy")
    assert done.returncode == 1
    for check in ("cut_and_extended_objects_are_refused", "bombs_do_not_go_off", "a_damaged_shard_is_named"):
        assert f"test_codec[toy-{check}]" in done.stdout
