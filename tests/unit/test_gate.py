"""The gate's verdicts: faults that no bound excuses, bounds, calibration; on logits, without a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import ModelRefused
from data_catalog.nouns import Gate, VariantCard
from infra import gate

pytestmark = pytest.mark.unit

NAMES = ("ant", "bee", "cow", "dog")


def said(answers, labels=None):
    """Logits that answer so."""
    return np.eye(len(NAMES), dtype=np.float32)[answers] * 5


def card(name, by_class):
    return VariantCard(
        model="m", version="v", tier="edge", name=name, recipe=name, runtime="litert", runtime_version="1", key="",
        digest="d", bytes=1, classes=NAMES, shape=(1,), dtype="uint8", temperature=1.0, validation_rows=100,
        accuracy=float(np.mean(by_class)), accuracy_interval=(0, 1), class_accuracy=by_class, agreement=1.0,
        made_seconds=0.0,
    )  # fmt: skip


LABELS = np.arange(80) % 4


def test_a_good_model_has_no_fault():
    assert gate.faults(said(LABELS), LABELS, NAMES) == ()


def test_logits_that_are_no_numbers():
    logits = said(LABELS)
    logits[3, 1] = np.nan
    logits[7, 0] = np.inf
    assert gate.faults(logits, LABELS, NAMES)[0].startswith("2 of 80 rows have logits that are no numbers")


def test_a_model_that_answers_one_class():
    assert "answers 'cow' to every row" in gate.faults(said(np.full(80, 2)), LABELS, NAMES)[0]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_a_swapped_label_map_is_told_with_the_right_order(order):
    """Output i means class order[i]; a model that is right but for that is found out, and told its order."""
    answers = np.array([order.index(label) for label in LABELS])
    found = gate.faults(said(answers), LABELS, NAMES)
    if list(order) == [0, 1, 2, 3]:
        assert found == ()
    else:
        meant = ", ".join(NAMES[c] for c in order)
        assert f"100.00% if its outputs meant {meant}" in found[0]


def test_the_bounds_overall_and_by_class():
    whole = card("cloud", (1.0, 1.0, 1.0, 1.0))
    gate.refuse_if_worse(card("int8", (0.98, 1.0, 1.0, 1.0)), whole, Gate(max_drop=0.01, max_class_drop=0.05))
    with pytest.raises(ModelRefused, match=r"int8 variant of m is right on 95.00%.*more than `gate.max_drop` 1.00%"):
        gate.refuse_if_worse(card("int8", (0.8, 1.0, 1.0, 1.0)), whole, Gate(max_drop=0.01, max_class_drop=0.5))
    with pytest.raises(ModelRefused, match=r"80.00% of class 'ant'.*`gate.max_class_drop` 10.00%"):
        gate.refuse_if_worse(card("int8", (0.8, 1.0, 1.0, 1.0)), whole, Gate(max_drop=0.1, max_class_drop=0.1))


def test_calibration_error_is_small_where_confidence_is_the_share_of_right_answers():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 4)).astype(np.float32) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(4, p=row) for row in chances])
    assert gate.calibration_error(logits * 3, labels) < 0.03, "temperature scaling takes the factor out"
    labels[:2000:2] = 0  # rows of one half whose labels say nothing
    assert gate.calibration_error(logits, labels) > 0.05
