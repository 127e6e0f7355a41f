"""Choose what each site answers with, from what was measured there, and keep the choice in its profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import PlanError
from data_catalog.nouns import Profile, Site, Tier, VariantCard
from infra import choice, keys, rollout, storage


def choose_variants(
    cards: Mapping[Tier, VariantCard],
    sites: Sequence[Site],
    offered: Mapping[str, tuple[VariantCard, ...]],
    profiles: Sequence[Profile],
    bucket: str,
) -> tuple[dict[str, VariantCard], list[Profile], dict[str, str]]:
    """By site, the variant that it answers with; the profiles, of which those that changed are stored; who fell back.

    A site that can run nothing of what it was offered, because it fails its self-test there say, answers with the
    variant that it answered with last, if it has one. That is decided here, before any work is named by a variant.

    Args:
        cards: the tiers' own variants.
        sites: of the run.
        offered: by site, as `offer_variants` says.
        profiles: in the sites' order; each has what was offered as measured or as refused.
        bucket: of the store.

    Raises:
        PlanError: a site could load none of what it was offered, and has no earlier one; names site and runtime.
    """
    store = storage.open_store(bucket)
    chosen: dict[str, VariantCard] = {}
    known: list[Profile] = []
    fallbacks: dict[str, str] = {}
    for site, profile in zip(sites, profiles, strict=True):
        own = cards[site.tier]
        try:
            card = choice.choose(site, offered[site.name], profile, own)
        except PlanError:
            good = _last_good(store, site, offered[site.name][0], profile)
            if not good:
                raise
            card, fallbacks[site.name] = good
        changes = {
            "chosen": profile.chosen | {own.version: card.digest},
            "good": profile.good | {own.model: f"{card.version}/{card.name}"},
        }
        if (profile.chosen, profile.good) != (changes["chosen"], changes["good"]):
            profile = profile.model_copy(update=changes)
            store.put(keys.profile(site.name), profile.model_dump_json(indent=2).encode())
        chosen[site.name] = card
        known.append(profile)
    return chosen, known, fallbacks


def _last_good(
    store: storage.Store, site: Site, refused: VariantCard, profile: Profile
) -> tuple[VariantCard, str] | None:
    """What a site answered with last, and why it does so again; None if it can not."""
    good = rollout.fall_back(store, refused, profile)
    runtime = profile.variants[good.digest].runtime or good.runtime if good else ""
    if good is None or (site.runtime and site.runtime != runtime):
        return None
    why = (
        f"fell back to variant {good.name} of version {good.version}, the last good one:"
        f" {choice.refusal(profile, refused)}"
    )
    return good.model_copy(update={"runtime": runtime}), why


choose_variants_task = task(name="choose variants", cache_policy=NO_CACHE)(choose_variants)
