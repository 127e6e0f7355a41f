"""List what each site may answer with: what its group was told to use, or what was published for its tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Site, Tier, VariantCard
from infra import choice, model_registry, rollout, storage
from infra.runtimes import RUNTIMES


def offer_variants(
    cards: Mapping[Tier, VariantCard], sites: Sequence[Site], bucket: str
) -> dict[str, tuple[VariantCard, ...]]:
    """By site: the variants that its runtime may be able to run, with the runtime that would execute them there.

    Args:
        cards: the tiers' own variants.
        sites: of the run.
        bucket: of the store.

    Raises:
        PlanError: the runtime of a site can run none of them, as their cards say; names site and runtime.
        UnknownName: a site names a runtime that is not there.
        SettingError: a runtime is not installed; says what to set.
    """
    store = storage.open_store(bucket)
    own = cards["edge"]
    told = rollout.resolve(store, own.model, cards, sites)
    pinned = rollout.pinned(store, own.model, sites)
    published = list(model_registry.cards(store, own.model, own.version).values())
    offered = {}
    for site in sites:

        def version_of(runtime: str, name: str = site.name) -> str:
            return RUNTIMES.get(runtime, f"site {name}, key `runtime`").version()

        offered[site.name] = choice.candidates(
            site, told[site.name], cards, published, version_of, pinned=site.group in pinned
        )
    return offered


offer_variants_task = task(name="offer variants", cache_policy=NO_CACHE)(offer_variants)
