"""What a run and a plan have in common: train, preprocess, partition, measure, and choose what each site answers with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect.runtime import flow_run

from data_catalog.catalog import Catalog
from data_catalog.errors import SiteFailed
from data_catalog.nouns import Dataset, Model, Profile, Site, Tier, VariantCard
from flows import _dispatching as dispatching
from infra import choice, keys, quarantine, silence
from infra.enrolment import joined_sites
from infra.ledger import Index
from infra.partition import sized
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

    batch: Dataset  # its transforms fitted; without the sources of which nothing is known
    where: list[Site]  # that take part
    cards: dict[Tier, VariantCard]
    chosen: dict[str, VariantCard]  # by site
    options: dict[str, tuple[VariantCard, ...]]  # by site: what the planner may choose instead, `chosen` first
    fallbacks: dict[str, str]  # by site: why it answers with an earlier variant
    profiles: list[Profile]  # in the sites' order
    sources: dict[str, dispatching.Ready]  # by name, in the dataset's order
    probe_bytes: int  # what measuring new sites sent over their links
    measured: bool  # whether one of them was
    silent: dict[str, str]  # sites that gave no answer and take part, and why; their profiles may be guesses
    absent: dict[str, str]  # sites that gave none and do without, and why
    before: tuple[str, ...]  # sources whose last index stands in for what their site did not say
    unseen: dict[str, str]  # these, and sources that are not counted: what is to be said of them

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
    catalog = catalog_of(settings)
    batch, network = catalog.dataset(dataset, "parameter `dataset`"), catalog.model(model, "parameter `model`")
    where = catalog.sites(sites, batch, "parameter `sites`")
    school = catalog.dataset(network.trained_on, f"model {model}, key `trained_on`")
    authorise("run", batch, where)  # before anything is read; the plan asks again
    return Entries(batch=sized(batch, where), network=network, school=school, where=where)


def catalog_of(settings: Settings) -> Catalog:
    """The catalog with the sites that joined; who waits is admitted first."""
    return Catalog(settings.catalog_folders, joined_sites(open_store(settings.required_bucket()), settings.home))


def new_run_id(watch: Stopwatch) -> str:
    """The start of a run in UTC, and the first letters of the flow run's id."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(watch.started))}-{str(flow_run.id or '')[:8]}"


def prepare(
    entries: Entries, run_id: str, work: Path, bucket: str, watch: Stopwatch, ends: float | None = None
) -> Prepared:
    """The stages before the plan, in order, in a folder of the run's own; what was done before is not done again.

    Each time that other sites are asked for something they are waited for half of what is left until `ends` (epoch seconds),
    so that there is time for the others' answers. Then what earlier runs know of a site stands in for what it did not say.

    Raises:
        SiteFailed: by then nothing is known of any source.
        CloudEdgeError: without `ends`, what stopped a site.
    """
    with watch.stage("train"):
        whole, school = fit_transforms_task(entries.batch, entries.school, work, bucket)
        cards = train_model_task(entries.network, school, work, bucket, entries.where)
        publish_cards_task(list(cards.values()), watch.started)

    named = {site.name: site for site in entries.where}

    def cut(source: str) -> dispatching.Ready:
        return dispatching.prepare(origin(source), whole, source, run_id, work, bucket, watch)

    def origin(source: str) -> Site | None:
        return named.get(whole.source(source).site)

    names = [source.name for source in whole.sources]
    told, late = dispatching.as_far_as_heard(cut, names, origin, halfway(ends))
    silent = {whole.source(name).site: why for name, why in late.items()}
    before = {name: last for name in late if (last := _as_before(whole, name, work, bucket))}
    ready = {name: each for name in names if (each := told.get(name) or before.get(name))}
    if not ready:
        raise SiteFailed(
            f"no source of dataset {whole.name} can be counted: {'; '.join(f'{n}: {why}' for n, why in late.items())}, and"
            " none of them has ever said what it holds; start those sites and run again, or with a later deadline"
        )
    batch = whole.model_copy(update={"sources": tuple(source for source in whole.sources if source.name in ready)})
    for site in entries.where:  # what a link kept back until now is in its place before the plan looks
        if site.dispatch == "mailbox":
            letters.take_in_late(open_store(bucket), site.name)

    with watch.stage("probe"):
        offered = offer_variants_task(cards, entries.where, bucket)
        known, dispatch, quiet = _measured(entries.where, offered, silent, run_id, bucket, ends)
        silent |= quiet
        needed = {site.name for site in entries.where if site.tier == "cloud"} | {s.site for s in batch.sources}
        absent = {name: why for name, why in silent.items() if name not in needed}
        where = [site for site in entries.where if site.name not in absent]
        heard = [site for site in where if site.name not in silent]
        found = refine_profiles_task([known[site.name] for site in heard], dispatch, [], bucket)
        chosen, found, fallbacks = choose_variants_task(cards, heard, offered, found, bucket)
        profiles = {each.site: each for each in found}
        for site in where:
            if site.name in silent:
                profile = read_profile(open_store(bucket), site.name)
                profiles[site.name], chosen[site.name] = silence.stand_in(site, profile, offered[site.name])
        options = {
            site.name: choice.options(site, chosen[site.name], offered[site.name], profiles[site.name])
            if site in heard
            else (chosen[site.name],)
            for site in where
        }
    uncounted = {name: why for name, why in late.items() if name not in before}
    return Prepared(
        batch=batch, where=where, cards=cards, chosen=chosen, options=options, fallbacks=fallbacks,
        profiles=[profiles[site.name] for site in where], sources=ready,
        probe_bytes=sum(known[site.name].probe_bytes for site in heard if site.name in dispatch and site.tier == "edge"),
        measured=bool(dispatch), silent={name: why for name, why in silent.items() if name not in absent}, absent=absent,
        before=tuple(before), unseen=silence.unseen({name: late[name] for name in before}, uncounted),
    )  # fmt: skip


def halfway(ends: float | None) -> float | None:
    """The middle of the time that is left."""
    return None if ends is None else (time.time() + ends) / 2


def _as_before(batch: Dataset, name: str, work: Path, bucket: str) -> dispatching.Ready | None:
    """A source as its site cut it last; None if it never did."""
    store = open_store(bucket)
    index = silence.last_index(store, batch, batch.source(name))
    if index is None:
        return None
    rejects = keys.quarantine(batch.name, name, index.fingerprint)
    left_out = quarantine.count(store, rejects, work) if batch.on_bad_record == "quarantine" else 0
    return dispatching.Ready(index, None, left_out)


def _measured(
    where: list[Site],
    offered: dict[str, tuple[VariantCard, ...]],
    silent: Mapping[str, str],
    run_id: str,
    bucket: str,
    ends: float | None,
) -> tuple[dict[str, Profile], dict[str, float], dict[str, str]]:
    """Measure the sites that have to be, one after another: those of one machine would measure each other's load.

    Returns:
        By site: the profile; of those that were measured, the seconds that handing the order over took; of those
        that gave no answer, why. The silent ones are asked for nothing.
    """
    named = {site.name: site for site in where}
    known: dict[str, Profile] = {}
    dispatch: dict[str, float] = {}
    quiet: dict[str, str] = {}
    new: dict[str, tuple[VariantCard, ...]] = {}

    def measure(name: str) -> Profile:
        return dispatching.probe(named[name], new[name], run_id, bucket)

    for name in (name for name in named if name not in silent):
        last = read_profile(open_store(bucket), name)
        new[name] = choice.unmeasured(last, offered[name])
        if last and not new[name]:
            known[name] = last
            continue
        begun = time.time()
        done, late = dispatching.as_far_as_heard(measure, [name], named.get, halfway(ends))
        quiet |= late
        if name in done:
            known[name], dispatch[name] = done[name], time.time() - begun - done[name].probe_seconds
    return known, dispatch, quiet
