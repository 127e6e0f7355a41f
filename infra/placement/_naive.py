"""What one would do without a programme, to compare with: everything in the cloud, everything where it is, the same for all.

They look at neither speed nor link, so they are no rules of the registry, which have to be as good as the best.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.placement import programme

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.placement import Problem, Solution

Moves = dict[tuple[str, str], int]  # shards by origin and site


def cloud_only(problem: Problem) -> Moves:
    """Every shard goes to the first cloud."""
    cloud = next((site.name for site in problem.sites if site.cloud), None)
    if cloud is None:
        raise PlanError("cloud-only needs a cloud site; name one with --site")
    return {(origin.site, cloud): origin.shards for origin in problem.origins}


def edge_only(problem: Problem) -> Moves:
    """Every shard is answered where it was born."""
    return {(origin.site, origin.site): origin.shards for origin in problem.origins}


def equal_split(problem: Problem) -> Moves:
    """Every site answers the same number of shards, its own first."""
    total, names = sum(origin.shards for origin in problem.origins), [site.name for site in problem.sites]
    room = {name: total // len(names) + (place < total % len(names)) for place, name in enumerate(names)}
    moves: Moves = {}
    left = {}
    for origin in problem.origins:
        kept = min(origin.shards, room.get(origin.site, 0))
        moves[origin.site, origin.site] = kept
        room[origin.site] = room.get(origin.site, 0) - kept
        left[origin.site] = origin.shards - kept
    for name, shards in left.items():
        for site in names:
            given = min(shards, room[site])
            moves[name, site] = moves.get((name, site), 0) + given
            room[site] -= given
            shards -= given
    return moves


NAIVE: Mapping[str, Callable[[Problem], Moves]] = {
    "cloud-only": cloud_only, "edge-only": edge_only, "equal-split": equal_split,
}  # fmt: skip


def place(problem: Problem, name: str) -> Solution:
    """The placement of that name, and what it should cost.

    The bound is that of the programme's plan. Where there is none, or this one breaks a disk, the floor or a cap, the gap is
    not known.

    Raises:
        PlanError: shards would leave an origin that they may not leave.
    """
    first = {site.name: site.variants[0].name for site in problem.sites}
    moves = {pair: count for pair, count in NAIVE[name](problem).items() if count}
    for origin in problem.origins:
        if origin.resident and any(o == origin.site != i for o, i in moves):
            raise PlanError(f"{name} would move shards of {origin.site}, which must stay there; see `residency`")
    counts = {(o, i, first[i]): count for (o, i), count in moves.items()}
    found = programme.stated(problem, counts, _bound(problem, counts))
    return replace(found, reasons={site.name: name for site in problem.sites})


def _bound(problem: Problem, counts: dict[tuple[str, str, str], int]) -> float:
    """Below which no placement that keeps what is asked can be; 0: not known, or these do not keep it."""
    try:
        return programme.place(problem).lower_bound if programme.put(problem, counts, 0.0) else 0.0
    except PlanError:
        return 0.0
