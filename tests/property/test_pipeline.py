"""The pipeline: order, the first failure, bounded memory, and no thread left behind."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import BadInput, SiteFailed
from infra import pipeline

pytestmark = pytest.mark.property


def stage_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stage-")]


@given(st.lists(st.integers(), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_every_item_goes_through_all_stages_in_order(items, stages, depth):
    steps = [(f"s{k}", lambda path, k=k: (*path, k)) for k in range(stages)]
    done, times = pipeline.run_stages(((item,) for item in items), steps, depth=depth)
    assert done == [(item, *range(stages)) for item in items]
    assert [clock.name for clock in times] == [name for name, _ in steps]
    assert all(clock.busy >= 0 and (clock.start <= clock.end or not items) for clock in times)
    assert not stage_threads()


class Broken(Exception):
    pass


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_the_failure_of_a_stage_is_the_callers_and_ends_everything(stages, depth, data):
    where, at = data.draw(st.integers(0, stages - 1)), data.draw(st.integers(0, 30))
    seen: list[list[int]] = [[] for _ in range(stages)]

    def step(k):
        def run(item):
            seen[k].append(item)
            if (k, item) == (where, at):
                raise Broken(f"stage {k}, item {item}")
            return item

        return run

    with pytest.raises(Broken, match=f"^stage {where}, item {at}$"):
        pipeline.run_stages(range(10_000), [(f"s{k}", step(k)) for k in range(stages)], depth=depth)
    assert not stage_threads()
    assert seen[where] == list(range(at + 1)), "the stage that failed begins no further item"
    for later in seen[where + 1 :]:
        assert later == list(range(len(later)))
        assert len(later) <= at


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 20))
def test_items_that_fail_leave_no_thread(stages, depth, good):
    def items():
        yield from range(good)
        raise Broken("the source")

    with pytest.raises(Broken, match="the source"):
        pipeline.run_stages(items(), [(f"s{k}", lambda item: item) for k in range(stages)], depth=depth)
    assert not stage_threads()


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4))
def test_no_more_items_are_in_flight_than_promised_and_as_many_as_promised(stages, depth):
    """The last stage holds its first item back until all the room there is has been filled."""
    promised = stages * (depth + 1) + 1
    state = threading.Condition()
    drawn = finished = most = 0

    def items():
        nonlocal drawn, most
        for item in range(4 * promised):
            with state:
                drawn += 1
                most = max(most, drawn - finished)
                state.notify_all()
            yield item

    def last(item):
        nonlocal finished
        with state:
            assert state.wait_for(lambda: drawn >= promised, timeout=60), f"only {drawn} of {promised} were let in"
            finished += 1
        return item

    steps = [(f"s{k}", lambda item: item) for k in range(stages - 1)]
    done, _ = pipeline.run_stages(items(), [*steps, ("last", last)], depth=depth)
    assert done == list(range(4 * promised))
    assert most == promised


@pytest.mark.parametrize("kinds", [("fine", "late", "fails", "fine"), ("fails", "fine"), ()])
def test_as_far_as_goes_on_without_what_failed_or_is_late(kinds):
    ended = threading.Event()

    def work(item):
        if item[1] == "fails":
            raise SiteFailed(f"{item[0]} is gone")
        if item[1] == "late":
            ended.wait(10)
        return item[0]

    items = list(enumerate(kinds))
    try:
        done, left = pipeline.as_far_as(work, items, time.time() + (2 if "late" in kinds else 10))
    finally:
        ended.set()
    assert done == [number for number, kind in items if kind == "fine"]
    said = {"fails": "{} is gone", "late": "no answer by the deadline"}
    assert left == {item: said[item[1]].format(item[0]) for item in items if item[1] != "fine"}


def test_as_far_as_without_a_deadline_forgives_only_when_asked_and_never_what_the_user_can_mend():
    def gone(item):
        raise SiteFailed("gone")

    def wrong(item):
        raise BadInput("wrong")

    with pytest.raises(SiteFailed):
        pipeline.as_far_as(gone, [1], None)
    assert pipeline.as_far_as(gone, [1], None, forgiving=True) == ([], {1: "gone"})
    assert pipeline.as_far_as(gone, [1], time.time() - 1) == ([], {1: "no answer by the deadline"})
    for deadline, forgiving in ((None, True), (time.time() + 10, False)):
        with pytest.raises(BadInput):
            pipeline.as_far_as(wrong, [1], deadline, forgiving=forgiving)
