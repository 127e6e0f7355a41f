"""The batch of a variant by measurement: which batches are tried, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from data_catalog.errors import ModelRefused
from data_catalog.nouns import VariantCard
from infra.runtimes import RUNTIMES
from tasks import probe_site
from tasks.probe_site import BATCHES, MOST_ROWS, measure_speed

pytestmark = pytest.mark.unit


class Recorder:
    """A runtime of two classes that remembers the batches it was loaded with and the rows it was asked for."""

    def __init__(self, classes: int = 2) -> None:
        self.classes, self.batches, self.asked = classes, [], []

    def load(self, model, batch):
        self.batches.append(batch)

        def predict(x):
            self.asked.append(len(x))
            return np.zeros((len(x), self.classes), np.float32)

        return predict


@pytest.fixture
def recorder(monkeypatch):
    def made(**how) -> Recorder:
        runtime = Recorder(**how)
        monkeypatch.setitem(RUNTIMES._loaded, "recorder", SimpleNamespace(load=runtime.load, version=lambda: "1"))
        return runtime

    monkeypatch.setattr(probe_site, "PROBE_SECONDS", 0.001)
    return made


def card(shape=(4,), dtype="uint8") -> VariantCard:
    return VariantCard(
        model="m", version="v", tier="edge", recipe="", runtime="recorder", runtime_version="1", key="", digest="d",
        bytes=1, classes=("a", "b"), shape=shape, dtype=dtype, temperature=1.0, validation_rows=1, accuracy=1,
        accuracy_interval=(0, 1), class_accuracy=(1, 1), agreement=1, made_seconds=1,
    )  # fmt: skip


def test_batches_are_tried_from_small_to_large(recorder, monkeypatch):
    monkeypatch.setattr(probe_site, "WORSE", 0.0)
    runtime = recorder()
    speed = measure_speed(card(), b"")
    assert runtime.batches == list(BATCHES)
    assert speed.batch in BATCHES
    assert speed.runtime == "recorder"
    assert speed.rows_per_second > 0
    assert max(runtime.asked) <= MOST_ROWS


def test_after_two_that_are_worse_no_larger_one_is_tried(recorder, monkeypatch):
    monkeypatch.setattr(probe_site, "WORSE", np.inf)  # whatever comes after the first is worse
    runtime = recorder()
    measure_speed(card(), b"")
    assert runtime.batches == list(BATCHES[:3])


def test_the_time_for_a_variant_is_bounded(recorder, monkeypatch):
    monkeypatch.setattr(probe_site, "MOST_PROBE_SECONDS", 0.0)
    runtime = recorder()
    assert measure_speed(card(), b"").batch == BATCHES[0]
    assert runtime.batches == [BATCHES[0]]


def test_large_records_meet_no_batch_that_does_not_fit(recorder):
    runtime = recorder()
    assert measure_speed(card((2048, 2048, 3), "float32"), b"").batch == 1
    assert set(runtime.batches) == {1}
    assert set(runtime.asked) == {1}


def test_a_site_of_several_threads_is_measured_with_all_at_work(recorder, monkeypatch):
    monkeypatch.setattr(probe_site, "MOST_PROBE_SECONDS", 0.0)
    runtime = recorder()
    measure_speed(card(), b"", threads=3)
    assert runtime.batches == [BATCHES[0]] * 4


def test_logits_of_other_classes_are_refused(recorder):
    recorder(classes=3)
    with pytest.raises(
        ModelRefused, match=r"variant edge \(d\) of m answers 1 records with \(1, 3\), not .* of 2 classes"
    ):
        measure_speed(card(), b"")
