"""What a run and a plan have in common: train, preprocess, partition, measure, and choose what each site answers with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from prefect.runtime import flow_run

from data_catalog.catalog import Catalog
from data_catalog.nouns import Dataset, Model, Profile, Site, Tier, VariantCard
from flows import _dispatching as dispatching
from infra import choice
from infra.enrolment import joined_sites
from infra.ledger import Index
from infra.partition import sized
from infra.pipeline import side_by_side
from infra.progress import Stopwatch
from infra.security import letters
from infra.security.policy import authorise
from infra.settings import Settings
from infra.sites import read_profile
from infra.storage import open_store
from tasks.choose_variants import choose_variants_task
from tasks.fit_transforms import fit_transforms_task
from tasks.offer_variants import offer_variants_task
from tasks.publish_cards import publish_cards_task
from tasks.publish_profiles import publish_profiles_task
from tasks.refine_profiles import refine_profiles_task
from tasks.train_model import train_model_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What the catalog says of a run's names."""

    batch: Dataset
    network: Model
    school: Dataset  # that the model is trained on
    where: list[Site]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a plan looks at."""

    batch: Dataset  # its transforms fitted
    cards: dict[Tier, VariantCard]
    chosen: dict[str, VariantCard]  # by site
    options: dict[str, tuple[VariantCard, ...]]  # by site: what the planner may choose instead, `chosen` first
    fallbacks: dict[str, str]  # by site: why it answers with an earlier variant
    profiles: list[Profile]
    sources: dict[str, dispatching.Ready]  # by name, in the dataset's order
    probe_bytes: int  # what measuring new sites sent over their links

    @property
    def indexes(self) -> list[Index]:
        """Of the shards of each source."""
        return [source.index for source in self.sources.values()]


def entries_of(settings: Settings, dataset: str, model: str, sites: tuple[str, ...]) -> Entries:
    """Look the names up.

    Raises:
        CatalogError: an entry is broken.
        UnknownName: there is none.
        AccessDenied: the policy does not let this user answer the dataset at those sites.
    """
    catalog = Catalog(settings.catalog_folders, joined_sites(open_store(settings.required_bucket()), settings.home))
    batch, network = catalog.dataset(dataset, "parameter `dataset`"), catalog.model(model, "parameter `model`")
    where = catalog.sites(sites, batch, "parameter `sites`")
    school = catalog.dataset(network.trained_on, f"model {model}, key `trained_on`")
    authorise("run", batch, where)  # before anything is read; the plan asks again
    return Entries(batch=sized(batch, where), network=network, school=school, where=where)


def new_run_id(watch: Stopwatch) -> str:
    """The start of a run in UTC, and the first letters of the flow run's id."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(watch.started))}-{str(flow_run.id or '')[:8]}"


def prepare(entries: Entries, run_id: str, work: Path, bucket: str, watch: Stopwatch) -> Prepared:
    """The stages before the plan, in order, in a folder of the run's own; what was done before is not done again."""
    batch, where = entries.batch, entries.where
    with watch.stage("train"):
        batch, school = fit_transforms_task(batch, entries.school, work, bucket)
        cards = train_model_task(entries.network, school, work, bucket, where)
        publish_cards_task(list(cards.values()), watch.started)

    named = {site.name: site for site in where}

    def cut(source: str) -> dispatching.Ready:
        origin = named.get(batch.source(source).site)
        return dispatching.prepare(origin, batch, source, run_id, work, bucket, watch)

    names = [source.name for source in batch.sources]
    ready = dict(zip(names, side_by_side(cut, names), strict=True))
    for site in where:  # what a link kept back until now is in its place before the plan looks
        if site.dispatch == "mailbox":
            letters.take_in_late(open_store(bucket), site.name)

    dispatch: dict[str, float] = {}
    measured = 0

    def profiled(site: Site) -> Profile:
        known = read_profile(open_store(bucket), site.name)
        new = choice.unmeasured(known, offered[site.name])
        if known and not new:
            return known
        nonlocal measured
        begun = time.time()
        profile = dispatching.probe(site, new, run_id, bucket)
        measured += profile.probe_bytes if site.tier == "edge" else 0
        dispatch[site.name] = time.time() - begun - profile.probe_seconds
        return profile

    with watch.stage("probe"):  # one after another: sites of one machine would measure each other's load
        offered = offer_variants_task(cards, where, bucket)
        profiles = refine_profiles_task([profiled(site) for site in where], dispatch, [], bucket)
        if dispatch:
            publish_profiles_task(profiles)
        chosen, profiles, fallbacks = choose_variants_task(cards, where, offered, profiles, bucket)
        options = {
            site.name: choice.options(site, chosen[site.name], offered[site.name], profile)
            for site, profile in zip(where, profiles, strict=True)
        }
    return Prepared(
        batch=batch, cards=cards, chosen=chosen, options=options, fallbacks=fallbacks, profiles=profiles, sources=ready,
        probe_bytes=measured,
    )  # fmt: skip
