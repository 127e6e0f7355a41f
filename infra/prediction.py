"""What a plan should cost beside the programme's own figures: bytes with results, seconds of each site, of reuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.problem import RESULT_BYTES, RESULT_BYTES_PER_ROW, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from data_catalog.nouns import Cascade, CodecTrial, Placement, Profile, Site
    from infra.placement import Solution


def seconds_to_reuse(known: Iterable[tuple[Site, Profile]], escalation: float) -> float:
    """What remains when the ledger holds everything: handing over the orders, then the escalations' order."""
    first = max(profile.dispatch_seconds for _, profile in known)
    again = max((profile.dispatch_seconds for site, profile in known if site.tier == "cloud"), default=0.0)
    return first + (again if escalation else 0.0)


def site_seconds(solution: Solution, known: Iterable[tuple[Site, Profile]]) -> dict[str, float]:
    """What each site itself should take, as its receipts will say: without the dispatch, with the escalations."""
    again = max(0.0, solution.seconds - max(solution.site_seconds.values(), default=0.0))
    cloud = next((site.name for site, _ in known if site.tier == "cloud"), "")
    seconds = {}
    for site, profile in known:
        own = solution.site_seconds.get(site.name)
        parts = [part - profile.dispatch_seconds for part in (own, again if site.name == cloud else None) if part]
        seconds[site.name] = max(0.0, sum(parts))
    return seconds


def wan_bytes(
    placements: Sequence[Placement],
    known: Mapping[str, tuple[Site, Profile]],
    trials: Mapping[str, Sequence[CodecTrial]],
    cascades: Mapping[str, Cascade],
    record_bytes: float,
) -> int:
    """Bytes over the edge sites' links, both ways: moved shards, escalated rows and results.

    The models are there already: measuring the site brought them.
    """
    total = 0.0
    for p in placements:
        result = RESULT_BYTES + RESULT_BYTES_PER_ROW * p.shard.rows if known[p.site][0].tier == "edge" else 0
        total += result  # written once; read again by a run that finds it there
        if p.reused:
            continue
        (origin, _), (site, _) = known[p.shard.origin], known[p.site]
        packed = p.shard.bytes / ratio(trials[p.shard.source], p.codec)
        left = origin.tier == "edge" and (site is not origin or not origin.shards_on_premises)
        total += packed if left else 0
        if site.tier == "edge":
            total += cascades[p.variant].escalation * p.shard.rows * record_bytes
            total += packed if site is not origin or not site.shards_on_premises else 0
    return int(total)
