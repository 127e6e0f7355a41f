"""The guarantee: the error of its test by brute force, its coverage where the truth is known, and the hard cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from data_catalog.errors import BadInput
from infra import cascade, guarantee

pytestmark = pytest.mark.property

CASES = st.tuples(st.integers(1, 60), st.sampled_from([0.02, 0.05, 0.1, 0.3]), st.sampled_from([0.5, 0.9, 0.95]))


@settings(max_examples=25)
@given(CASES, st.floats(0, 1), st.floats(0, 1))
def test_the_error_is_at_most_what_was_promised(case, share, more):
    """Sums the exact probability of every number of losses and gains at a drop that is too large."""
    rows, bound, level = case
    limits = guarantee.most_losses(*case)
    gain = share * (1 - bound) / 2
    loss = min(bound + gain + more * (1 - bound - 2 * gain), 1 - gain)
    losses, gains = np.meshgrid(np.arange(rows + 1), np.arange(rows + 1))
    possible = (losses + gains <= rows) & (losses <= limits[np.minimum(gains, len(limits) - 1)])
    counts = np.stack([losses, gains, rows - losses - gains], axis=-1)[possible]
    wrong = multinomial(rows, [loss, gain, max(0.0, 1 - loss - gain)]).pmf(counts).sum() if len(counts) else 0.0
    assert wrong <= 1 - level + 1e-9


@settings(max_examples=25)
@given(CASES)
def test_limits_never_fall_and_begin_where_the_rows_are_enough(case):
    rows, bound, level = case
    limits = guarantee.most_losses(*case)
    assert (np.diff(limits) >= 0).all()
    needed = guarantee.rows_needed(bound, level)
    assert (limits[0] >= 0) == (rows >= needed)
    assert (1 - bound) ** needed <= 1 - level < (1 - bound) ** (needed - 1)


def test_the_published_number():
    """The rule of three: 598 rows without a loss show half a point at 95 %."""
    assert guarantee.rows_needed(0.005, 0.95) == 598
    assert guarantee.rows_needed(0, 0.95) == math.inf


def drawn(rows, random):
    """Rows of a known law: the surer the edge, the rarer a loss, so that the drop crosses the bound at some threshold."""
    confidence = random.random(rows).astype(np.float32) ** 0.2
    chance = random.random(rows)
    loss = chance < 0.09 * (1 - confidence) ** 0.5
    return confidence, loss, chance > 0.99


TRUTH = drawn(400_000, np.random.default_rng(0))


def true_drop(threshold):
    confidence, loss, gain = TRUTH
    kept = confidence >= np.float32(threshold)
    return (kept & loss).mean() - (kept & gain).mean()


def test_the_bound_is_broken_no_more_often_than_promised():
    """The margin of the sampling error is that of 300 draws at three standard deviations."""
    draws, bound, level, broken, useful = 300, 0.01, 0.9, 0, 0
    for seed in range(draws):
        shown = guarantee.lowest_threshold(*drawn(800, np.random.default_rng(seed + 1)), bound, level)
        threshold = shown.threshold if shown else cascade.NEVER_SURE
        broken += true_drop(threshold) > bound
        useful += threshold < cascade.NEVER_SURE
    assert broken / draws <= (1 - level) + 3 * math.sqrt(level * (1 - level) / draws)
    assert useful > draws / 2


def judged(rows, seed=5):
    confidence, loss, gain = drawn(rows, np.random.default_rng(seed))
    return confidence, ~loss, ~gain


def test_the_answer_is_what_the_threshold_does_to_the_rows():
    confidence, edge, cloud = judged(2000)
    found = cascade.choose_threshold(confidence, edge, cloud, 0.02, 1.5)
    kept = confidence >= np.float32(found.threshold)
    assert found.confidence == 0.95
    assert 0 < found.escalation < 1
    assert found.escalation == pytest.approx(1 - kept.mean())
    assert found.validation_accuracy == pytest.approx(np.where(kept, edge, cloud).mean())
    assert found.validation_cloud_accuracy - found.validation_accuracy <= found.allowance + 1e-9 <= 0.02
    assert found.kept_losses - found.kept_gains == round(
        2000 * (found.validation_cloud_accuracy - found.validation_accuracy)
    )
    assert np.float32(found.threshold) in guarantee.THRESHOLDS
    surer = cascade.choose_threshold(confidence, edge, cloud, 0.02, 1.5, level=0.99)
    closer = cascade.choose_threshold(confidence, edge, cloud, 0.01, 1.5)
    assert min(surer.escalation, closer.escalation) >= found.escalation


def test_too_few_rows_are_refused_with_the_number_that_it_takes():
    with pytest.raises(
        BadInput, match=r"at least 598 validation rows, and there are 597; give a bound of at least 0\.0051"
    ):
        cascade.choose_threshold(*judged(597), 0.005, 1.0)
    assert cascade.choose_threshold(*judged(597), 0.0051, 1.0).validation_rows == 597
    for level in (0.95, 0):
        with pytest.raises(BadInput, match="validation"):
            cascade.choose_threshold(*judged(0), 0.005, 1.0, level=level)


def test_a_bound_of_zero_is_kept_by_the_cloud_alone_whatever_the_rows():
    for rows in (0, 1, 1000):
        found = cascade.choose_threshold(*judged(rows), 0.0, 1.0)
        assert (found.threshold, found.escalation) == (cascade.NEVER_SURE, 1.0)


RIGHT, WRONG = np.ones(1000, bool), np.zeros(1000, bool)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0], ids=["none", "half", "exactly one"])
def test_rows_of_one_confidence_go_together(level):
    """All ties, an exact 1.0 of a saturated softmax among them: all stay or all go."""
    confidence = np.full(1000, level, np.float32)
    all_right = cascade.choose_threshold(confidence, RIGHT, RIGHT, 0.005, 1.0)
    assert all_right.escalation == (1.0 if level == 0 else 0.0)  # 0 is no answer, which never stays
    assert cascade.choose_threshold(confidence, WRONG, RIGHT, 0.005, 1.0).escalation == 1


def test_an_edge_that_is_better_than_the_cloud_keeps_all():
    confidence, edge, _ = judged(1000)
    assert cascade.choose_threshold(confidence, edge | True, WRONG, 0.005, 1.0).escalation == 0


def test_confident_mistakes_send_everything_to_the_cloud():
    confidence = np.linspace(0.2, 1.0, 1000, dtype=np.float32)
    edge = RIGHT.copy()
    edge[-20:] = False
    found = cascade.choose_threshold(confidence, edge, RIGHT, 0.005, 1.0)
    assert found.escalation > 0.98


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_an_answer_escalates_even_where_all_others_stay(bad):
    logits = np.tile(np.float32([9, 0, 0]), (1000, 1))
    logits[7] = bad
    _, confidence = cascade.answer(logits, 1.0)
    found = cascade.choose_threshold(confidence, RIGHT, RIGHT, 0.005, 1.0)
    assert np.flatnonzero(confidence < np.float32(found.threshold)).tolist() == [7]


def test_a_detector_that_finds_nothing_is_not_sure():
    for shape in ((3, 0), (0, 4), (0, 0)):
        classes, confidence = cascade.answer(np.zeros(shape, np.float32), 1.0)
        assert classes.shape == confidence.shape == (shape[0],)
        assert (confidence == 0).all()
    assert cascade.answer(np.zeros((2, 1), np.float32), 1.0)[1].tolist() == [1.0, 1.0]  # one class, and no doubt
