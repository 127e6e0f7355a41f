"""Twenty random moments that strike a run: somebody dies, stops or is cut off; afterwards the rows are what they would have been.

Four moments a round, and rounds until twenty have struck a run that was under way, each kind of victim among them; at most
three times as many moments.
"""

from __future__ import annotations

import os

import pytest

from tests import disasters

pytestmark = pytest.mark.chaos

MOMENTS = int(os.environ.get("CHAOS_MOMENTS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))


def test_whatever_happens_no_row_is_lost_or_repeated(tmp_path):
    outcomes = []
    with disasters.world(tmp_path) as place:
        for outcome in disasters.rounds(place, MOMENTS, SEED, 4):
            print(outcome)
            assert (outcome.lost, outcome.repeated, outcome.differing) == (0, 0, 0), outcome
            assert outcome.recomputed_by_worker <= 1, outcome
            outcomes.append(outcome)
    struck = {victim: found["kills"] for victim, found in disasters.summary(outcomes).items()}
    print(struck)
    assert sum(struck.values()) >= MOMENTS
    assert min(struck.values()) > 0, struck
