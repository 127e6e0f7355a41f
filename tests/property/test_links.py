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


@given(RATE, st.floats(0, 0.1), st.integers(1, 40))
def test_what_two_streams_sent_in_turn_shows_the_rate(rate, pause, objects):
    """Each object takes what the rate allows; while none is under way the link waits, and that says nothing of it."""
    size = max(links.LEAST_OBJECT, math.ceil(links.ENOUGH_SECONDS * rate))
    each = size / rate
    transfers = [(number * (each + pause), number * (each + pause) + each, size) for number in range(objects)]
    sent = links.sending(list(reversed(transfers)))
    assert (sent.objects, sent.bytes) == (objects, objects * size)
    assert sent.seconds == pytest.approx(objects * each)
    assert links.sending_rate(sent, 0.0) == pytest.approx(rate, rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1e-3, 10)), min_size=1, max_size=30))
def test_overlapping_streams_are_busy_as_long_as_any_of_them(spans):
    sent = links.sending([(begin, begin + length, 1 << 20) for begin, length in spans])
    assert (
        max(length for _, length in spans) * (1 - 1e-9)
        <= sent.seconds
        <= sum(length for _, length in spans) * (1 + 1e-9)
    )


def test_small_objects_short_times_and_latency_say_nothing_of_a_rate():
    assert links.sending([]) is None
    assert links.sending_rate(links.sending([(0.0, 10.0, 1000)] * 3), 0.0) is None
    assert links.sending_rate(links.sending([(0.0, 0.1, 1 << 20)]), 0.0) is None
    fast = links.sending([(number * 0.1, number * 0.1 + 0.1, 1 << 20) for number in range(100)])
    assert links.sending_rate(fast, 0.2) is None, "the time of each was its latency"
    assert links.sending_rate(fast, 0.02) == pytest.approx(100 * (1 << 20) / 9)
