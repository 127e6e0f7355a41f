"""Placement rules: how many shards of each origin go to each site. A rule is a module here, one function.

The contract: `place(problem)` is pure and deterministic; every origin's shards are all placed; a shard whose
origin is resident stays at its origin; no shard goes to a site that is not in the problem, nor to a variant
that its site does not offer; the disk of a site, the floor of accuracy and the caps hold; the answer carries a reason for
every site, a lower bound below which no placement can be, and the gap above it. `docs/planner.md` writes the model out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

from data_catalog.nouns import Objective as Objective  # noqa: TC001  (pydantic reads it when a stored problem is read)
from infra.registry import Registry

OBJECTIVES: tuple[Objective, ...] = ("makespan", "bytes", "money")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceVariant:
    """One variant that a site could run, as measured there."""

    name: str
    seconds_per_row: float  # of one thread
    startup_seconds: float
    escalation: float = 0.0  # share of the rows answered with it at an edge that the first cloud answers again
    accuracy: float = 1.0  # expected share of right answers, those of the cloud for escalated rows included
    bytes: int = 0  # of the model, on the site's disk
    memory_bytes: int = 0  # that it needs to run


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacePrices:
    """What a site costs, in units of money."""

    hour: float = 0.0  # of the site, while it works
    row: float = 0.0  # answered
    gb_up: float = 0.0  # a gigabyte (1e9 bytes) over its link, and
    gb_down: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSite:
    """What a site can do, as measured: seconds, and bytes a second."""

    name: str
    cloud: bool
    host: str  # sites of one host share its cores
    host_cores: int
    threads: int
    variants: tuple[PlaceVariant, ...]  # that it may run; a cloud's first one answers what the edges escalate
    dispatch_seconds: float
    latency_seconds: float  # a shard cannot go through faster than this
    up: float
    down: float
    disk_bytes: float = float("inf")  # for others' shards and the largest variant
    memory_bytes: float = float("inf")
    busy_seconds: float = 0.0  # until it is free for what is placed now: what it has begun already
    up_busy_seconds: float = 0.0  # that what was placed before takes of its link, and
    down_busy_seconds: float = 0.0
    prices: PlacePrices = PlacePrices()


def unescalated(site: PlaceSite) -> PlaceSite:
    """The site where no cloud answers what it is unsure of: nothing is sent, so nothing is counted for it."""
    return replace(site, variants=tuple(replace(variant, escalation=0.0) for variant in site.variants))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrigin:
    """The shards born at one site: how many, and the mean of their rows and compressed bytes."""

    site: str
    shards: int
    rows: float
    bytes: float
    resident: bool
    pack_seconds: float = 0.0  # of one thread there, for a shard that leaves
    kept_bytes: float = (
        0.0  # of a shard that was to stay and is sent all the same, as it lies there; 0: it is in the store
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a rule may look at."""

    sites: tuple[PlaceSite, ...]
    origins: tuple[PlaceOrigin, ...]
    record_bytes: float  # compressed, of one escalated row
    result_bytes: float = 0.0  # of a shard's answers, which an edge sends, and
    result_row_bytes: float = 0.0  # of each row of them
    objective: Objective = "makespan"
    caps: dict[Objective, float] = field(default_factory=dict)  # most of each; also of the objective's rivals
    accuracy: float = 0.0  # the least expected accuracy, by rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Whole shards from origin to site and variant, and what they should cost."""

    counts: dict[tuple[str, str, str], int]  # (origin, site, variant)
    seconds: float
    site_seconds: dict[str, float]  # of the sites that answer shards, before the cloud's second part
    bytes: float = 0.0  # over the links of the edges
    money: float = 0.0
    accuracy: float = 1.0
    lower_bound: float = 0.0  # of the objective, over all placements
    gap: float = math.inf  # how far the objective lies above it, as a share of it; infinite: not known, as no bound is
    balance: float = 1.0  # Jain's index of the seconds of all sites that may answer shards
    reasons: dict[str, str] = field(default_factory=dict)


class Rule(Protocol):
    """What a placement module offers."""

    def place(self, problem: Problem) -> Solution:
        """The placement; PlanError if there is none."""
        ...


RULES: Registry[Rule] = Registry(__name__, "placement rule")
