"""A variant's page and the picture of variants: they say what the card says, and mark what no other variant beats."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.nouns import VariantCard
from infra.report import card_page, variant_chart

pytestmark = pytest.mark.unit


def card(name: str, sent: int = 1000, accuracy: float = 0.9, speed: float | None = None, **more) -> VariantCard:
    return VariantCard(
        model="m", version="1", tier="edge", name=name, recipe="distil <b>", runtime="litert", runtime_version="2", key="k",
        digest="d" * 64, bytes=4 * sent, stored_bytes=sent, classes=("yes", "no"), shape=(4, 4, 1), dtype="uint8",
        temperature=1.5, validation_rows=200, accuracy=accuracy, accuracy_interval=(accuracy, accuracy),
        class_accuracy=(0.9, 0.8), agreement=0.95, made_seconds=3, rows_per_second=speed, **more,
    )  # fmt: skip


def test_an_old_card_still_reads():
    old = {
        key: value
        for key, value in card("edge").model_dump().items()
        if VariantCard.model_fields[key].is_required() or key == "tier"
    }
    read = VariantCard.model_validate(old)
    assert (read.name, read.stored_bytes, read.golden_digest) == ("edge", 0, "")


def test_the_page_says_what_the_card_says():
    steps = ({"step": "prune", "sparsity": 0.8}, {"step": "int8"})
    full = card("small", recipe_steps=steps, class_drop=(0.01, 0.02), sparsity=0.8, runs_on={"litert": "2.1"})
    for page in (card_page.page(full), card_page.markdown(full)):
        for words in ("small", "1,000", "prune sparsity 0.8", "80.0%", "litert 2.1", "2.00%", "yes", "90.00%"):
            assert words in page
    assert "<b>" not in card_page.page(full)
    assert "src=" not in card_page.page(full)
    bare = card_page.page(card("edge"))
    assert "Recipe" not in bare
    assert "None" not in bare


def test_the_front():
    cards = [
        card("large", 4000, 0.99),
        card("small", 1000, 0.95),
        card("worse", 2000, 0.94),
        card("fast", 2000, 0.94, 9.0),
    ]
    assert variant_chart.front(cards) == {"large", "small", "fast"}
    picture = variant_chart.variants("a < b", cards)
    texts = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]
    assert {"large", "small", "worse", "fast"} <= set(texts)
    assert any("9 rows/s" in text for text in texts)
    ElementTree.fromstring(variant_chart.variants("one", cards[:1]))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8))
def test_nothing_on_the_front_is_beaten_and_all_else_is(figures):
    cards = [card(f"v{i}", size, share / 4, float(speed)) for i, (size, share, speed) in enumerate(figures)]
    best = variant_chart.front(cards)
    assert best
    for one in cards:
        mine = (-one.stored_bytes, one.accuracy, one.rows_per_second)
        others = [(-c.stored_bytes, c.accuracy, c.rows_per_second) for c in cards]
        beaten = any(o != mine and all(a >= b for a, b in zip(o, mine, strict=True)) for o in others)
        assert (one.name in best) != beaten
