"""Codec trials: honest numbers of a real shard, and nothing that could hurt a run."""

from __future__ import annotations

import importlib

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.nouns import CodecTrial
from infra import codec_trials, shards
from infra.codecs import CODECS

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def plain() -> bytes:
    x = np.cumsum(np.random.default_rng(1).integers(0, 3, (300, 64, 3)), axis=1).astype(np.int16)
    return shards.encode(pa.array([f"a/{row:09d}" for row in range(len(x))]), x)


@pytest.fixture
def odd_codecs(tmp_path, monkeypatch):
    """Codecs from outside: one whose package is missing, one that loses a byte, and one as slow as can be."""
    loaded = dict(CODECS._loaded)
    (tmp_path / "lacking_codec.py").write_text("import no_such_package\n")
    (tmp_path / "losing_codec.py").write_text(
        "def compress(data, tensor=None):\n    return data[:-1]\ndef decompress(data, size):\n    return data.ljust(size, b'x')\n"
    )
    (tmp_path / "slow_codec.py").write_text(
        "import time\nseen = []\n"
        "def compress(data, tensor=None):\n    seen.append(len(data))\n    end = time.thread_time() + len(data) / 1e6\n    while time.thread_time() < end:\n        pass\n    return data[: len(data) // 2] + bytes(4)\n"
        "def decompress(data, size):\n    return whole[:size]\nwhole = b''\n"
    )
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cloudedge.codecs]\nlacking = lacking_codec\nlosing = losing_codec\nslow = slow_codec\n")  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    CODECS._loaded = loaded


def test_ratios_are_those_of_the_whole_shard(plain):
    trials = {trial.codec: trial for trial in codec_trials.measure(plain, patience=0.5).tried}
    for name in ("none", "zstd", "gzip", "delta_zstd"):
        assert trials[name].ratio == pytest.approx(len(plain) / len(shards.pack(plain, name)))
    assert min(trial.compress_bytes_per_second for trial in trials.values()) > 0


def test_a_codec_of_which_little_is_tried_gets_about_the_ratio_of_the_whole(plain):
    found = {trial.codec: trial for trial in codec_trials.measure(plain, patience=0).tried}
    for name in ("zstd_19", "brotli_11", "lzma"):
        assert found[name].ratio == pytest.approx(len(plain) / len(shards.pack(plain, name)), rel=0.15)


def test_codecs_that_cannot_be_used_are_left_out_with_the_reason(plain, odd_codecs):
    trials = codec_trials.measure(plain, patience=0.001)
    assert "no_such_package" in trials.left_out["lacking"]
    assert trials.left_out["losing"] == "gave back other bytes"
    assert "no other way" in trials.left_out["png"], "the shard holds no images"
    assert not {trial.codec for trial in trials.tried} & set(trials.left_out)
    assert {trial.codec for trial in trials.tried} | set(trials.left_out) == set(CODECS.names())


def test_a_slow_codec_gets_little_to_do(plain, odd_codecs):
    codec_trials.measure(plain, patience=0.005)
    seen = importlib.import_module("slow_codec").seen
    assert max(seen) < 2 * codec_trials.FIRST_BYTES < len(plain)


def test_the_choice_is_the_least_of_the_slowest_steps():
    trials = [
        CodecTrial(codec="raw", ratio=1, compress_bytes_per_second=1e9, decompress_bytes_per_second=1e9),
        CodecTrial(codec="slow-back", ratio=10, compress_bytes_per_second=1e9, decompress_bytes_per_second=1e6),
    ]
    assert codec_trials.seconds_a_byte(trials[1], 1e6) == 1e-6
    assert codec_trials.choose(trials, 5e5).codec == "slow-back"
    assert codec_trials.choose(trials, 2e6).codec == "raw"
    assert codec_trials.choose(trials, 2e6, unpacking_cores=4).codec == "slow-back"


def test_of_codecs_that_are_alike_the_one_with_less_work_is_chosen():
    heavy = CodecTrial(codec="heavy", ratio=5, compress_bytes_per_second=1e7, decompress_bytes_per_second=1e8)
    light = CodecTrial(codec="light", ratio=4.9, compress_bytes_per_second=1e8, decompress_bytes_per_second=1e8)
    weak = CodecTrial(codec="weak", ratio=4.5, compress_bytes_per_second=1e9, decompress_bytes_per_second=1e9)
    assert codec_trials.choose([heavy, light, weak], 1e5).codec == "light"
