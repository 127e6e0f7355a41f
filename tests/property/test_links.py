"""The fit of a link: exact on a line, unmoved by one odd transfer, and the same in other units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import links
from tasks.probe_site import SIZES

pytestmark = pytest.mark.property

LATENCY = st.floats(0, 0.5)
RATE = st.floats(1e4, 1e9)


def line(latency: float, rate: float, sizes=SIZES) -> list[float]:
    return [latency + size / rate for size in sizes]


@given(LATENCY, RATE)
def test_a_line_is_found(latency, rate):
    found = links.fit(SIZES, line(latency, rate))
    assert found.bytes_per_second == pytest.approx(rate, rel=1e-4)
    assert found.latency_seconds == pytest.approx(latency, rel=1e-6, abs=1e-6)
    assert math.sqrt(found.latency_variance) == pytest.approx(0, abs=1e-6)


@given(LATENCY, RATE, st.integers(0, len(SIZES) - 1), st.floats(0.1, 100))
def test_one_odd_transfer_changes_nothing(latency, rate, odd, factor):
    seconds = [each * (factor if i == odd else 1) for i, each in enumerate(line(latency, rate))]
    found = links.fit(SIZES, seconds)
    assert found.bytes_per_second == pytest.approx(rate, rel=1e-4)
    assert found.latency_seconds == pytest.approx(latency, rel=1e-4, abs=1e-4 * SIZES[-1] / rate + 1e-9)


@given(LATENCY, RATE, st.floats(0.01, 100))
def test_other_units_give_the_same_link(latency, rate, unit):
    seconds = [each * (1 + 0.1 * math.sin(i)) for i, each in enumerate(line(latency, rate))]
    one, other = links.fit(SIZES, seconds), links.fit(SIZES, [each * unit for each in seconds])
    assert other.bytes_per_second == pytest.approx(one.bytes_per_second / unit)
    assert other.latency_seconds == pytest.approx(one.latency_seconds * unit, abs=1e-9)


@given(st.lists(st.floats(1e-6, 10), min_size=len(SIZES), max_size=len(SIZES)))
def test_any_times_give_a_link(seconds):
    found = links.fit(SIZES, seconds)
    assert 0 < found.bytes_per_second < math.inf
    assert 0 <= found.latency_seconds <= max(seconds)
    assert found.rate_variance >= 0 <= found.latency_variance
