"""A model learns at the sites, round after round; weights travel, records do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

from prefect import flow
from pydantic import Field

from data_catalog.catalog import Catalog
from data_catalog.federation import FederationReport, LocalTraining, SiteUpdate, Start
from infra import keys
from infra.coordination import coordinating
from infra.federation import rounds_of
from infra.pipeline import in_time
from infra.progress import Stopwatch
from infra.security.policy import authorise
from infra.settings import read_settings
from infra.storage import open_store
from infra.workspace import workspace
from tasks.average_updates import average_updates_task
from tasks.begin_federation import begin_federation_task
from tasks.fit_transforms import fit_transforms_task
from tasks.judge_federation import judge_federation_task
from tasks.train_at_site import train_at_site_task
from tasks.train_model import train_model_task


@flow(name="federate", flow_run_name="{model} learns where {dataset} is born")
def federate(
    dataset: Annotated[str, Field(description="Name of a dataset in the catalog")] = "mnist-5k",
    model: Annotated[str, Field(description="Name of a model in the catalog")] = "digits",
    sites: Annotated[tuple[str, ...], Field(description="Sites that learn; none: where the data is born")] = (),
    rounds: Annotated[int, Field(description="How often the sites' weights are averaged", ge=1)] = 20,
    average: Annotated[str, Field(description="Name of an average: mean, median, trimmed_mean")] = "mean",
    epochs: Annotated[int, Field(description="Over a site's own records in a round", ge=1)] = 2,
    batch: Annotated[int, Field(description="Records in a step of a site", ge=1)] = 16,
    learning_rate: Annotated[float, Field(description="Of the first round", gt=0, le=1)] = 0.006,
    start: Annotated[
        Start, Field(description="Begin with the published edge variant, or with a fresh net")
    ] = "published",
    quorum: Annotated[
        int, Field(description="Updates that a round needs; 0: of more than half of the sites", ge=0)
    ] = 0,
    wait_seconds: Annotated[float, Field(description="How long a round waits for a site", gt=0)] = 600.0,
) -> FederationReport:
    """Train a model's edge variant at the sites, judge it as every variant is, and publish or refuse it.

    Killed, it goes on with the round that it was in when it is called with the same settings again.

    Raises:
        CloudEdgeError: what stopped it, such as a round with too few sites; the rounds before it stay.
    """
    settings = read_settings()
    bucket = settings.required_bucket()
    catalog = Catalog(settings.catalog_folders)
    born, network = catalog.dataset(dataset, "parameter `dataset`"), catalog.model(model, "parameter `model`")
    learners = sites or tuple(dict.fromkeys(source.site for source in born.sources))
    access = authorise("federate", born, catalog.sites(learners, born, "parameter `sites`"))
    school = catalog.dataset(network.trained_on, f"model {model}, key `trained_on`")
    local = LocalTraining(epochs=epochs, batch=batch, learning_rate=learning_rate)
    watch, begun = Stopwatch(), time.time()
    with (
        coordinating(settings, f"federation-of-{model}", keys.federations(model), fresh=False),
        workspace(settings.home) as work,
    ):
        with watch.stage("train"):
            born, school = fit_transforms_task(born, school, work, bucket)
            cards = train_model_task(network, school, work, bucket)
        with watch.stage("federate"):
            federation = begin_federation_task(
                network, born, sites, rounds, average, local, start, quorum, cards, bucket
            )
            done = rounds_of(open_store(bucket), federation)

            while len(done) <= federation.rounds:
                learn: Callable[[str], SiteUpdate] = partial(
                    train_at_site_task, federation, done[-1], model=network, dataset=born, work=work,
                    home=settings.home, bucket=bucket,
                )  # fmt: skip
                answers = in_time(learn, federation.sites, wait_seconds)
                answered = dict(zip(federation.sites, answers, strict=True))
                done.append(average_updates_task(federation, done[-1], answered, settings.home, bucket))
        with watch.stage("judge"):
            return judge_federation_task(federation, done[1:], network, school, cards, work, bucket, begun, access)
