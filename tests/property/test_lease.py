"""The lease over a register that loses answers: whatever happens, admitted writes stand in one line with growing tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.agreement import LeaseRecord
from data_catalog.errors import Conflict, CorruptObject, StoreError, StoreUnreachable
from infra.agreement._lease import Lease

pytestmark = pytest.mark.property

FAULTS = ("none", "none", "none", "not written", "written, no answer", "written twice")


class Faulty:
    """A register in memory whose answers are lost as told."""

    def __init__(self, faults=()) -> None:
        self.values: list[bytes] = []
        self.faults = list(faults)

    def read(self, name):
        return (self.values[-1], str(len(self.values))) if self.values else None

    def swap(self, name, version, value):
        fault = self.faults.pop() if self.faults else "none"
        if fault == "not written":
            raise StoreUnreachable("no answer")
        if (version or "0") != str(len(self.values)):
            raise Conflict("another one")
        self.values.append(value)
        if fault == "written, no answer":
            raise StoreUnreachable("no answer")
        if fault == "written twice":  # the client tried again by itself, and its own write is in its way
            raise Conflict("another one")
        return str(len(self.values))


@pytest.fixture(autouse=True)
def _no_renewal(monkeypatch):
    monkeypatch.setattr(Lease, "_renew", lambda self: None)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "admit", "admit", "release"])), max_size=30),
    st.lists(st.sampled_from(FAULTS), max_size=60),
)
def test_admitted_writes_stand_in_one_line_with_growing_tokens(steps, faults):
    register = Faulty(faults)
    leases = [Lease(register, "x", 0.0001) for _ in range(3)]
    admitted = []
    for who, what in steps:
        lease = leases[who]
        try:
            if what == "take":
                lease.take()
            elif what == "release":
                lease.release()
            else:
                beat = lease.admit()
                admitted.append((beat, lease.token, lease.holder))
        except (Conflict, StoreError):
            continue
    records = [LeaseRecord.model_validate_json(value) for value in register.values]
    assert [record.beat for record in records] == list(range(1, len(records) + 1))
    tokens = [record.token for record in records]
    assert tokens == sorted(tokens)
    holders = {(record.token, record.holder) for record in records if record.holder}
    assert len(holders) == len({token for token, _ in holders})
    assert [beat for beat, _, _ in admitted] == sorted({beat for beat, _, _ in admitted})
    for beat, token, holder in admitted:
        assert (records[beat - 1].token, records[beat - 1].holder) == (token, holder)


@given(st.lists(st.sampled_from(("written, no answer", "written twice", "not written")), max_size=3))
def test_a_lost_answer_alone_costs_nobody_the_lease(faults):
    register = Faulty()
    lease = Lease(register, "x", 60)
    lease.take()
    register.faults = faults
    before = lease.admit()
    assert lease.admit() > before
    assert lease.token == 1


def test_what_was_released_is_taken_at_once_and_what_is_held_is_not():
    register = Faulty()
    first, second = Lease(register, "x", 60), Lease(register, "x", 60)
    assert first.take() == 1
    first.release()
    assert second.take() == 2
    with pytest.raises(Conflict, match="coordinated by another now"):
        first.admit()
    second.release()
    second.release()
    assert first.take() == 3


def test_something_else_under_the_leases_name_is_named():
    register = Faulty()
    register.values.append(b"no lease")
    with pytest.raises(CorruptObject, match="the lease x is no lease"):
        Lease(register, "x", 60).take()
