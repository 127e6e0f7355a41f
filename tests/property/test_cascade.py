"""The cascade's statistics against their definitions, by brute force; here the threshold is that with a margin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax, softmax

from infra import cascade

pytestmark = pytest.mark.property

BOUNDS = st.floats(0, 1)


@st.composite
def judged(draw):
    """Confidences with many ties, and who was right."""
    rows = draw(st.integers(1, 40))
    levels = draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12, unique=True))
    confidence = np.array(draw(st.lists(st.sampled_from(levels), min_size=rows, max_size=rows)), np.float32)
    return confidence, draw(hnp.arrays(bool, rows)), draw(hnp.arrays(bool, rows))


def accuracy(threshold, confidence, edge_right, cloud_right):
    return np.where(confidence < np.float32(threshold), cloud_right, edge_right).mean()


@given(judged(), BOUNDS)
def test_validation_accuracy_keeps_the_bound_and_is_what_the_threshold_gives(case, bound):
    found = cascade.choose_threshold(*case, bound, 1.5, level=0)
    confidence, _, cloud_right = case
    assert found.validation_accuracy == pytest.approx(accuracy(found.threshold, *case))
    assert found.validation_accuracy >= cloud_right.mean() - bound - 1e-9
    assert found.validation_accuracy >= cloud_right.mean() - found.allowance - 1e-9
    assert found.allowance <= bound
    assert found.escalation == pytest.approx((confidence < np.float32(found.threshold)).mean())
    assert found.validation_cloud_accuracy == pytest.approx(cloud_right.mean())
    assert (found.temperature, found.bound, found.validation_rows) == (1.5, bound, len(confidence))


@given(judged(), BOUNDS, BOUNDS)
def test_a_larger_bound_never_escalates_more(case, one, other):
    low, high = sorted([one, other])
    few, many = (cascade.choose_threshold(*case, bound, 1.0, level=0) for bound in (high, low))
    assert few.escalation <= many.escalation
    assert few.threshold <= many.threshold


@given(judged(), BOUNDS)
def test_it_is_the_lowest_threshold_from_which_on_every_higher_one_is_good_enough(case, bound):
    confidence, edge_right, cloud_right = case
    enough = cloud_right.sum() - bound * cascade.SPENT_SHARE * len(confidence) - 1e-9
    good = None
    for threshold in [cascade.NEVER_SURE, *sorted(set(confidence.tolist()), reverse=True)]:
        if np.where(confidence < np.float32(threshold), cloud_right, edge_right).sum() < enough:
            break
        good = threshold
    if good == confidence.min():  # all stay at the edge, whatever its confidence in rows yet to come
        good = 0.0
    assert cascade.choose_threshold(*case, bound, 1.0, level=0).threshold == good


@given(judged(), BOUNDS, st.randoms())
def test_the_order_of_the_rows_does_not_matter(case, bound, random):
    order = list(range(len(case[0])))
    random.shuffle(order)
    shuffled = [a[order] for a in case]
    for level in (0, 0.6) if bound > 0.6 else (0,):
        assert cascade.choose_threshold(*shuffled, bound, 1.0, level) == cascade.choose_threshold(
            *case, bound, 1.0, level
        )


@given(st.integers(1, 100_000).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilsons_interval_holds_the_share_inside_zero_and_one(case):
    right, rows = case
    low, high = cascade.wilson_interval(right, rows)
    assert 0 <= low <= right / rows <= high <= 1
    assert low < high
    # its ends are the shares p whose distance from the observed one is Z95 standard deviations of p
    for end in (low, high):
        if 0 < end < 1:
            assert abs(right / rows - end) == pytest.approx(cascade.Z95 * (end * (1 - end) / rows) ** 0.5, abs=1e-9)
    more_low, more_high = cascade.wilson_interval(4 * right, 4 * rows)
    assert more_high - more_low < high - low


def test_wilsons_interval_without_rows_says_nothing():
    assert cascade.wilson_interval(0, 0) == (0.0, 1.0)


LOGITS = st.tuples(st.integers(1, 12), st.integers(2, 6)).flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(-50, 50, width=32))
)


@given(LOGITS, st.floats(0.1, 10))
def test_an_answer_is_the_largest_softmax_probability(logits, temperature):
    before = logits.copy()
    classes, confidence = cascade.answer(logits, temperature)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(classes, logits.argmax(axis=1))
    expected = softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
    np.testing.assert_allclose(confidence, expected, rtol=1e-4)
    assert (classes.dtype, confidence.dtype) == (np.int32, np.float32)
    alone = np.concatenate([cascade.answer(row[None], temperature)[1] for row in logits])
    np.testing.assert_allclose(alone, confidence, rtol=1e-6)


@given(LOGITS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_a_row_with_a_logit_that_is_no_number_is_never_sure(logits, bad, data):
    row, column = data.draw(st.integers(0, len(logits) - 1)), data.draw(st.integers(0, logits.shape[1] - 1))
    clean = cascade.answer(logits, 1.0)[1]
    logits[row, column] = bad
    with np.errstate(invalid="ignore"):
        confidence = cascade.answer(logits, 1.0)[1]
    assert np.isfinite(confidence).all()
    if not np.isneginf(bad):  # minus infinity is a class that is impossible, which is an answer
        assert confidence[row] == 0
    others = np.arange(len(logits)) != row
    np.testing.assert_array_equal(confidence[others], clean[others])


@given(
    hnp.arrays(np.float32, (30, 4), elements=st.floats(-4, 4, width=32)),
    hnp.arrays(np.int64, 30, elements=st.integers(0, 3)),
)
def test_no_temperature_of_a_grid_fits_better_than_the_fitted_one(logits, labels):
    target = np.where(np.arange(4) == labels[:, None], 31 / 32, 1 / 32 / 3)

    def loss(temperature):
        return -(target * log_softmax(logits.astype(np.float64) / temperature, axis=1)).sum(axis=1).mean()

    fitted = cascade.fit_temperature(logits, labels)
    assert 0.05 <= fitted <= 20
    assert loss(fitted) <= min(loss(t) for t in np.geomspace(0.05, 20, 60)) + 1e-4


def test_a_model_that_is_right_on_all_rows_is_not_sure_of_everything():
    labels = np.arange(200) % 4
    logits = np.where(np.arange(4) == labels[:, None], 5.0, 0.0).astype(np.float32)
    _, confidence = cascade.answer(logits, cascade.fit_temperature(logits, labels))
    assert confidence.max() < 201 / 202 + 1e-3


def test_the_temperature_of_rows_that_say_nothing_is_one():
    nan = np.full((3, 4), np.nan, np.float32)
    for logits in (np.zeros((0, 4), np.float32), nan, np.zeros((3, 1), np.float32)):
        assert cascade.fit_temperature(logits, np.zeros(len(logits), np.int64)) == 1.0
    good = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    labels = np.arange(30) % 4
    with_bad = cascade.fit_temperature(np.concatenate([good, nan]), np.append(labels, [0, 1, 2]))
    assert with_bad == cascade.fit_temperature(good, labels)
