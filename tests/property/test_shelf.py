"""The shelf form of a model: any bytes come back, and nothing that is damaged does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import CorruptObject
from infra import shelf

pytestmark = pytest.mark.property


@given(st.binary(max_size=4096))
def test_any_bytes_come_back(data):
    assert shelf.unpack(shelf.pack(data), len(data), "key") == data


@given(st.binary(max_size=600), st.binary(min_size=1, max_size=40), st.data())
def test_cut_and_extended_objects_are_refused_by_name(data, tail, draw):
    packed = shelf.pack(data)
    kept = draw.draw(st.integers(0, len(packed) - 1))
    for bad in (packed + tail, packed[:kept]):
        with pytest.raises(CorruptObject, match=r"^models/m is corrupt.*publish the model again$"):
            shelf.unpack(bad, len(data), "models/m")


@given(st.binary(max_size=4096), st.binary(max_size=99), st.integers(0, 4096))
def test_a_delta_gives_the_new_model_and_only_to_who_has_the_old(old, change, at):
    new = old[:at] + change + old[at + len(change) :]
    sent = shelf.delta(old, new)
    assert shelf.apply(old, sent, len(new), "key") == new
    if sent != shelf.delta(b"", new):
        with pytest.raises(CorruptObject, match=r"^models/m is corrupt or not for this model"):
            shelf.apply(b"other", sent, len(new), "models/m")
