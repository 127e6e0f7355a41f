"""Choose what each site answers with, from what was measured there, and keep the choice in its profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile, Site, Tier, VariantCard
from infra import choice, keys, storage


def choose_variants(
    cards: Mapping[Tier, VariantCard],
    sites: Sequence[Site],
    offered: Mapping[str, tuple[VariantCard, ...]],
    profiles: Sequence[Profile],
    bucket: str,
) -> tuple[dict[str, VariantCard], list[Profile]]:
    """By site, the variant that it answers with; and the profiles, of which those that changed are stored.

    Args:
        cards: the tiers' own variants.
        sites: of the run.
        offered: by site, as `offer_variants` says.
        profiles: in the sites' order; each has what was offered as measured or as refused.
        bucket: of the store.

    Raises:
        PlanError: a site could load none of what it was offered; names site and runtime.
    """
    chosen, known = {}, []
    for site, profile in zip(sites, profiles, strict=True):
        own = cards[site.tier]
        card = choice.choose(site, offered[site.name], profile, own)
        if profile.chosen.get(own.version) != card.digest:
            profile = profile.model_copy(update={"chosen": profile.chosen | {own.version: card.digest}})
            storage.open_store(bucket).put(keys.profile(site.name), profile.model_dump_json(indent=2).encode())
        chosen[site.name] = card
        known.append(profile)
    return chosen, known


choose_variants_task = task(name="choose variants", cache_policy=NO_CACHE)(choose_variants)
