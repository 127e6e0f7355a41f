"""Refine the sites' profiles by what their last work orders showed: speeds, links, start-up, hand-over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile, Receipt
from data_catalog.orders import Sending
from infra import keys, links, profiles, storage


def refine_profiles(
    known: Sequence[Profile],
    dispatch_seconds: Mapping[str, float],
    receipts: Sequence[Receipt],
    bucket: str,
    sendings: Mapping[str, Sending] | None = None,
) -> list[Profile]:
    """The profiles with what was measured last weighed in; those that changed are stored.

    Args:
        known: as they are.
        dispatch_seconds: by site, from handing over an order to having its receipt, less the site's own time.
        receipts: what the sites did.
        bucket: of the store.
        sendings: by origin, how the shards that left it did.
    """
    hosts = {profile.site: profile.host for profile in known}
    refined = []
    for profile in known:
        beside = [receipt for receipt in receipts if hosts.get(receipt.site) == profile.host]
        new = profiles.refine(profile, receipts, beside)
        if profile.site in dispatch_seconds:
            new = profiles.observe(new, time.time(), dispatch_seconds=dispatch_seconds[profile.site])
        sent = (sendings or {}).get(profile.site)
        if sent and (rate := links.sending_rate(sent, profile.latency_seconds)):
            new = profiles.observe(new, time.time(), up_bytes_per_second=rate)
        if new != profile:
            storage.open_store(bucket).put(keys.profile(profile.site), new.model_dump_json(indent=2).encode())
        refined.append(new)
    return refined


refine_profiles_task = task(name="refine profiles", cache_policy=NO_CACHE)(refine_profiles)
