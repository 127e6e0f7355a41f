"""Twenty random moments, four in each run: somebody dies, stops or is cut off; afterwards the rows are what they would have been."""

from __future__ import annotations

import os

import pytest

from tests import disasters

pytestmark = pytest.mark.chaos

MOMENTS = int(os.environ.get("CHAOS_MOMENTS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
DRAWN = disasters.moments(MOMENTS, SEED)
ROUNDS = [DRAWN[first : first + 4] for first in range(0, MOMENTS, 4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with disasters.world(tmp_path_factory.mktemp("chaos")) as found:
        yield found


@pytest.mark.parametrize("moments", ROUNDS, ids=lambda some: "-and-".join(m.kind.replace(" ", "-") for m in some))
def test_whatever_happens_no_row_is_lost_or_repeated(place, moments):
    outcome = disasters.play(place, *moments)
    print(outcome)
    assert (outcome.lost, outcome.repeated, outcome.differing) == (0, 0, 0)
    assert outcome.recomputed_by_worker <= 1
