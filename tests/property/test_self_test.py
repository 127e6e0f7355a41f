"""Golden rows: they come back as they were, damage is an error, and a runtime passes only if it answers the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import CorruptObject, ModelRefused
from infra import self_test
from tests.unit.test_card_page import card

pytestmark = pytest.mark.property

WEIGHTS = np.random.default_rng(5).normal(size=(16, 4)).astype(np.float32)


def predict(x):
    return x.reshape(len(x), -1).astype(np.float32) @ WEIGHTS


@given(st.integers(1, 80), st.sampled_from(["uint8", "int16", "float32"]), st.booleans(), st.integers(0, 9))
def test_chosen_rows_come_back_and_pass(rows, dtype, restricted, seed):
    x = (np.random.default_rng(seed).random((rows, 4, 4)) * 100).astype(dtype)
    golden = self_test.choose(x, predict, restricted=restricted)
    assert 1 <= len(golden.x) <= self_test.ROWS
    assert (golden.x.shape[1:], golden.x.dtype) == ((4, 4), dtype)
    if not restricted:
        assert {row.tobytes() for row in golden.x} <= {row.tobytes() for row in x}
    again = self_test.read(self_test.write(golden), "k")
    np.testing.assert_array_equal(again.x, golden.x)
    np.testing.assert_array_equal(again.logits, golden.logits)
    self_test.require(card("edge"), predict, again)
    rounded = self_test.Golden(again.x, again.logits + np.float32(0.01 * np.ptp(again.logits)))
    self_test.require(card("edge"), predict, rounded)
    for wrong in (-again.logits - 1, again.logits * np.nan, again.logits[:, :2]):
        with pytest.raises(ModelRefused, match="failed its self-test here on litert"):
            self_test.require(card("edge"), lambda _, logits=wrong: logits, again)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_named(junk, cut):
    whole = self_test.write(self_test.choose(np.ones((3, 4, 4), np.uint8), predict))
    for data in (junk, whole[: min(cut, len(whole) - 1)]):
        with pytest.raises(CorruptObject, match="models/m/golden"):
            self_test.read(data, "models/m/golden.npz")


def test_every_class_has_its_rows():
    x = np.concatenate([np.full((200, 4, 4), 1, np.uint8), np.full((3, 4, 4), 200, np.uint8)])

    def by_brightness(rows):
        bright = (rows.reshape(len(rows), -1).mean(axis=1) > 100).astype(np.float32)
        return np.stack([1 - bright, bright], axis=1)

    golden = self_test.choose(x, by_brightness)
    assert set(golden.logits.argmax(axis=1)) == {0, 1}
