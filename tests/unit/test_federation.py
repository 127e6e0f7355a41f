"""Weights as objects, and which updates are none."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data_catalog.catalog import Catalog
from data_catalog.errors import CatalogError, CorruptObject
from data_catalog.federation import LocalTraining, Round, SiteUpdate
from infra import federation, local_training, weights

pytestmark = pytest.mark.unit

ORIGIN = [np.ones((2, 3), np.float32), np.zeros(4, np.float32)]
BEFORE = Round(number=0, weights="w", digest="d", updates=(), left_out={}, length=0.0)
UPDATE = SiteUpdate(
    federation_id="f", model="m", site="s", round=1, key="k", digest="d", bytes=1, origin="d", rows=3, loss=0.5,
    held_out_rows=0, held_out_right=0, seconds=0.1,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(array_shapes(max_dims=4, max_side=4).flatmap(lambda shape: arrays(np.float32, shape)), max_size=12))
def test_weights_come_back_bit_for_bit(made):
    back = weights.unpack(weights.pack(made), "x")
    assert [(a.shape, a.tobytes()) for a in back] == [(a.shape, a.tobytes()) for a in made]
    assert weights.pack(back) == weights.pack(made)


def damaged() -> dict[str, bytes]:
    whole = weights.pack(ORIGIN)
    bomb, pickled, wide, named = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez_compressed(bomb, w0000=np.zeros((2000, 2000), np.float32))
    np.savez(pickled, w0000=np.array([print], object))
    np.savez(wide, w0000=np.zeros(3))
    np.savez(named, other=np.zeros(3, np.float32))
    lying = io.BytesIO()
    with zipfile.ZipFile(lying, "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,), }"
        archive.writestr("w0000.npy", b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n")
    return {
        "empty": b"", "text": b"no weights", "cut": whole[:-30], "bomb": bomb.getvalue(), "pickled": pickled.getvalue(),
        "float64": wide.getvalue(), "other names": named.getvalue(), "a lie about its shape": lying.getvalue(),
    }  # fmt: skip


@pytest.mark.parametrize("what", damaged())
def test_what_are_no_weights(what):
    with pytest.raises(CorruptObject, match=r"sites/s/x\.npz holds no weights"):
        weights.unpack(damaged()[what], "sites/s/x.npz")


def test_what_is_no_update():
    assert federation.fault(UPDATE, ORIGIN, BEFORE, ORIGIN) == ""
    broken = [ORIGIN[0] * np.float32("inf"), ORIGIN[1]]
    assert "not finite" in federation.fault(UPDATE, broken, BEFORE, ORIGIN)
    assert "not finite" in federation.fault(UPDATE.model_copy(update={"loss": float("nan")}), ORIGIN, BEFORE, ORIGIN)
    assert "other shapes" in federation.fault(UPDATE, ORIGIN[:1], BEFORE, ORIGIN)
    assert "other shapes" in federation.fault(UPDATE, [ORIGIN[0].T, ORIGIN[1]], BEFORE, ORIGIN)
    assert "other weights" in federation.fault(UPDATE.model_copy(update={"origin": "e"}), ORIGIN, BEFORE, ORIGIN)


@pytest.mark.parametrize(
    ("lengths", "left_out"),
    [
        ({}, set()),
        ({"a": 1.0, "b": 2.0, "c": 9.0}, set()),
        ({"a": 1.0, "b": 2.0, "c": 21.0}, {"c"}),
        ({"a": 1.0, "b": 1e6}, {"b"}),
        ({"a": 1e6}, {"a"}),
        ({"a": 3.0}, set()),
    ],
)
def test_a_step_that_is_absurdly_long(lengths, left_out):
    assert set(federation.too_long(lengths, ORIGIN)) == left_out


def test_the_rate_falls_and_statistics_freeze():
    rates = [local_training.rate_in(LocalTraining(), number, 10) for number in range(1, 11)]
    assert rates[0] == LocalTraining().learning_rate
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    assert [local_training.freezes(number, 4, "fresh") for number in (1, 2, 3, 4)] == [False, False, True, True]
    assert local_training.freezes(1, 4, "published")


def test_a_model_of_another_recipe_cannot_be_trained_at_sites():
    model = Catalog().model("digits")
    other = model.variants["edge"].model_copy(update={"recipe": "mine"})
    with pytest.raises(CatalogError, match="'mine' cannot be trained at sites; use 'distil_int8'"):
        local_training.check(model.model_copy(update={"variants": model.variants | {"edge": other}}))
