"""Which shards go where: weighted rendezvous hashing with a quota a site.

A shard prefers the site with the highest score, a pure function of both names and the site's weight (D.
Thaler, C. Ravishankar, Using name-based mappings to increase hit rates, 1998; weights by W. Schindelhauer,
G. Schomaker, Weighted distributed hash tables, 2005). So a site keeps its shards from run to run, and a
change of one site's share moves only what must move.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def assign(shards: Sequence[str], quotas: Mapping[str, int]) -> dict[str, str]:
    """Shard to site, each site exactly its quota.

    Args:
        shards: digests.
        quotas: shards for each site; they add up to the number of shards.

    Raises:
        ValueError: they do not.
    """
    if sum(quotas.values()) != len(shards):
        raise ValueError(f"quotas for {sum(quotas.values())} shards where there are {len(shards)}")
    scores = sorted(
        ((_score(shard, site, quota), shard, site) for shard in shards for site, quota in quotas.items() if quota),
        reverse=True,
    )
    left = dict(quotas)
    placed: dict[str, str] = {}
    for _, shard, site in scores:
        if shard not in placed and left[site]:
            placed[shard] = site
            left[site] -= 1
    return placed


def _score(shard: str, site: str, weight: float) -> float:
    word = int.from_bytes(hashlib.blake2b(f"{shard}@{site}".encode(), digest_size=8).digest(), "big")
    return -weight / math.log((word + 1) / (2**64 + 1))
