"""Train a model and publish its variants, without answering anything."""

from __future__ import annotations

import time
from typing import Annotated

from prefect import flow
from pydantic import Field

from data_catalog.catalog import Catalog
from data_catalog.nouns import Tier, VariantCard
from infra.settings import read_settings
from infra.workspace import workspace
from tasks.fit_transforms import fit_transforms_task
from tasks.publish_cards import publish_cards_task
from tasks.train_model import train_model_task


@flow(name="train", flow_run_name="train {model}")
def train(
    model: Annotated[str, Field(description="Name of a model in the catalog")] = "digits",
) -> dict[Tier, VariantCard]:
    """Train a model's variants, judge and publish them; nothing is trained that the store has.

    Raises:
        CloudEdgeError: what stopped it, such as a gate that the edge variant did not pass.
    """
    begun = time.time()
    settings = read_settings()
    bucket = settings.required_bucket()
    catalog = Catalog(settings.catalog_folders)
    network = catalog.model(model, "parameter `model`")
    school = catalog.dataset(network.trained_on, f"model {model}, key `trained_on`")
    with workspace(settings.home) as work:
        _, school = fit_transforms_task(school, school, work, bucket)
        cards = train_model_task(network, school, work, bucket)
        publish_cards_task(list(cards.values()), begun)
        return cards
