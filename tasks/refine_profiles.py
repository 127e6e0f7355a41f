"""Refine the sites' profiles by what their last work orders showed: what handing one over really costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile, Receipt, VariantCard
from infra import keys, storage

WEIGHT = 0.5  # of the newest measurement, in the exponentially weighted mean


def refine_profiles(
    profiles: Sequence[Profile],
    dispatch_seconds: Mapping[str, float],
    receipts: Sequence[Receipt],
    chosen: Mapping[str, VariantCard],
    bucket: str,
) -> list[Profile]:
    """The profiles with what was measured last weighed in; those that changed are stored.

    Args:
        profiles: as they are known.
        dispatch_seconds: by site, from handing over an order to having its receipt, less the site's own time.
        receipts: what the sites did; one that computed something says what loading its variant took.
        chosen: by site, the variant that it answers with.
        bucket: of the store.
    """
    startup = {receipt.site: receipt.startup_seconds for receipt in receipts if receipt.computed_results}
    return [_refined(profile, dispatch_seconds, startup, chosen, bucket) for profile in profiles]


def _refined(
    profile: Profile,
    dispatch_seconds: Mapping[str, float],
    startup_seconds: Mapping[str, float],
    chosen: Mapping[str, VariantCard],
    bucket: str,
) -> Profile:
    site = profile.site
    changes: dict[str, Any] = {}
    if site in dispatch_seconds:
        changes["dispatch_seconds"] = _mean(dispatch_seconds[site], profile.dispatch_seconds)
    if site in startup_seconds:
        digest = chosen[site].digest
        speed = profile.variants[digest]
        speed = speed.model_copy(update={"startup_seconds": _mean(startup_seconds[site], speed.startup_seconds)})
        changes["variants"] = profile.variants | {digest: speed}
    if not changes:
        return profile
    refined = profile.model_copy(update=changes)
    storage.open_store(bucket).put(keys.profile(site), refined.model_dump_json(indent=2).encode())
    return refined


def _mean(new: float, old: float) -> float:
    return WEIGHT * new + (1 - WEIGHT) * old if old else new


refine_profiles_task = task(name="refine profiles", cache_policy=NO_CACHE)(refine_profiles)
