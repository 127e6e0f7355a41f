"""tflite-runtime 2.14 in its own environment: the child ends with its parent, and its crash is one clear error."""

from __future__ import annotations

import gc
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import psutil
import pytest

from data_catalog.errors import ModelRefused, SettingError, SiteFailed
from infra.runtimes import tflite_runtime
from infra.testing import runtime_suite
from tests.homes import wait_for

pytestmark = pytest.mark.integration

PARENT = """
import sys, time
import numpy as np
from infra.runtimes import tflite_runtime
predict = tflite_runtime.load(open(sys.argv[1], "rb").read(), 4)
predict(np.zeros((2, 6, 6, 1), np.float32))
print("ready", flush=True)
time.sleep(600)
"""


def children(of: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(of).children() if "_tflite.py" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def example():
    return runtime_suite.KNOWN["tflite_runtime"]()


def test_the_child_ends_when_nobody_holds_its_predictor(tflite_set, example):
    predict = tflite_runtime.load(example.model, 4)
    (child,) = children(os.getpid())
    np.testing.assert_allclose(predict(example.x), example.logits, atol=1e-4)
    del predict
    gc.collect()
    assert not child.is_running()


def test_the_child_ends_when_its_parent_is_killed(tflite_set, example, tmp_path):
    model = tmp_path / "model.tflite"
    model.write_bytes(example.model)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(model)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "ready\n"
    (child,) = children(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for("the end of the child", lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_crash_of_the_child_is_one_clear_error(tflite_set, example):
    predict = tflite_runtime.load(example.model, 4)
    (child,) = children(os.getpid())
    child.send_signal(signal.SIGKILL)
    with pytest.raises(SiteFailed, match=r"tflite-runtime 2\.14\.0 ended with code -9 while it answered a batch of 23"):
        predict(example.x)


def test_the_child_does_not_get_the_stores_credentials(tflite_set, example, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody's business")
    predict = tflite_runtime.load(example.model, 4)
    (child,) = children(os.getpid())
    assert "AWS_SECRET_ACCESS_KEY" not in child.environ()
    assert predict(example.x[:0]).shape == (0, runtime_suite.CLASSES)


def test_a_model_that_is_refused_leaves_no_child(tflite_set, example):
    newer = bytearray(example.model)  # of a schema that nobody knows
    (root,) = struct.unpack_from("<I", newer)
    (vtable,) = struct.unpack_from("<i", newer, root)
    (version,) = struct.unpack_from("<H", newer, root - vtable + 4)
    struct.pack_into("<I", newer, root + version, 99)
    with pytest.raises(ModelRefused, match=r"tflite-runtime 2\.14\.0 cannot run this model .*version 99"):
        tflite_runtime.load(bytes(newer), 4)
    assert not children(os.getpid())


def test_half_a_model_is_refused_before_a_child_begins(tflite_set, example):
    """The interpreter would take all memory that there is."""
    with pytest.raises(ModelRefused, match="no TensorFlow Lite model, or a damaged one"):
        tflite_runtime.load(example.model[: len(example.model) // 2], 4)


def test_without_the_setting_the_remedy_is_named(monkeypatch):
    monkeypatch.delenv("CLOUDEDGE_TFLITE_PYTHON", raising=False)
    with pytest.raises(SettingError, match=r"CLOUDEDGE_TFLITE_PYTHON is not set; .* .`make tflite`"):
        tflite_runtime.load(b"", 4)
    monkeypatch.setenv("CLOUDEDGE_TFLITE_PYTHON", "/nowhere/python")
    with pytest.raises(SettingError, match="is no program"):
        tflite_runtime.version()
    monkeypatch.setenv("CLOUDEDGE_TFLITE_PYTHON", sys.executable)
    with pytest.raises(SettingError, match=r"has no tflite-runtime; install requirements/tflite\.txt"):
        tflite_runtime.version()
