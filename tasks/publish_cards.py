"""Show the cards of variants that were published on the page of the run that made them in Prefect."""

from __future__ import annotations

from collections.abc import Iterable

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import VariantCard
from infra.report import card_page


def publish_cards(cards: Iterable[VariantCard], since: float) -> None:
    """An artifact for each card, with the history of the variant's name in Prefect's own.

    Args:
        cards: of variants.
        since: epoch seconds; what was published earlier has been shown.
    """
    for card in cards:
        if card.published_at >= since:
            create_markdown_artifact(
                card_page.markdown(card),
                key=f"card-{card.model}-{card.name}",
                description=f"Variant {card.name} of {card.model} {card.version}",
            )


publish_cards_task = task(name="publish cards", cache_policy=NO_CACHE)(publish_cards)
