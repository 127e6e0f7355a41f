"""Drift: no alarm where nothing has changed but as rarely as promised, and one where something has."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.nouns import Cascade
from infra import cascade, drift

pytestmark = pytest.mark.unit

ROWS = 1000


def calibrated(confidence) -> Cascade:
    right = np.ones(len(confidence), bool)
    wrong_below = confidence >= 0.8  # so that a part escalates
    return cascade.choose_threshold(confidence, wrong_below, right, 0.01, 1.0)


def sure(random, rows=ROWS, power=0.1):
    return random.random(rows).astype(np.float32) ** power


def looked(found: Cascade, confidence, sites=3):
    return drift.compare(found, drift.count(found, confidence), sites)


def test_data_that_have_not_changed_are_flagged_as_rarely_as_promised():
    runs, flagged = 300, 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        found = calibrated(sure(random))
        flagged += any(looked(found, sure(random, rows)).flagged for rows in (500, 300, 200))
    assert flagged / runs <= drift.FALSE_ALARMS + 3 * (drift.FALSE_ALARMS / runs) ** 0.5


@pytest.mark.parametrize(("power", "says"), [(0.3, "less sure"), (0.03, "more sure")])
def test_a_shift_is_flagged_and_its_direction_named(power, says):
    random = np.random.default_rng(1)
    found = calibrated(sure(random))
    seen = looked(found, sure(random, 300, power))
    assert seen.flagged
    assert says in seen.reason
    assert "under the threshold" in seen.reason
    assert seen.escalation_p < 0.001 > seen.distance_p
    assert not looked(found, sure(random, 3, power)).flagged, "three rows prove nothing"


def test_counts_of_shards_add_up_to_the_counts_of_all():
    random = np.random.default_rng(2)
    found = calibrated(sure(random))
    whole = sure(random)
    whole[:5] = [np.nan, 0, 1, found.threshold, found.calibrated[3][0]]
    parts = sum(drift.count(found, part) for part in np.array_split(whole, 7))
    np.testing.assert_array_equal(parts, drift.count(found, whole))
    clean = np.nan_to_num(whole)
    assert parts[-1] == ROWS
    assert parts[-2] == (clean < np.float32(found.threshold)).sum()
    assert parts[3] == (clean < np.float32(found.calibrated[3][0])).sum()


def test_the_very_rows_of_the_calibration_lie_at_no_distance():
    for confidence in (sure(np.random.default_rng(3)), np.ones(ROWS, np.float32), np.float32([0.5, 0.5, 1] * 400)):
        found = calibrated(confidence)
        seen = looked(found, confidence)
        assert seen.distance == pytest.approx(0)
        assert (seen.flagged, seen.reason) == (False, "")
        assert seen.escalation == pytest.approx(found.escalation)


def test_nothing_to_compare_is_no_drift():
    found = calibrated(sure(np.random.default_rng(4)))
    assert looked(found, np.zeros(0, np.float32)) is None
    none = found.model_copy(update={"calibrated": ()})
    assert looked(none, sure(np.random.default_rng(5))) is None
    assert drift.calibrate(np.zeros(0, np.float32)) == ()
