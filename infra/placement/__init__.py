"""Placement rules: how many shards of each origin go to each site. A rule is a module here, one function.

The contract: `place(problem)` is pure and deterministic; every origin's shards are all placed; a shard whose
origin is resident stays at its origin; no shard goes to a site that is not in the problem; and the answer
carries a reason for every site.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from infra.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSite:
    """What a site can do, as measured: seconds, and bytes a second."""

    name: str
    cloud: bool
    host: str  # sites of one host share its cores
    host_cores: int
    threads: int
    seconds_per_row: float  # of one thread, with the tier's variant
    startup_seconds: float
    dispatch_seconds: float
    latency_seconds: float  # a shard cannot go through faster than this
    up: float
    down: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrigin:
    """The shards born at one site: how many, and the mean of their rows and compressed bytes."""

    site: str
    shards: int
    rows: float
    bytes: float
    resident: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a rule may look at."""

    sites: tuple[PlaceSite, ...]
    origins: tuple[PlaceOrigin, ...]
    escalation: float  # share of the rows answered at an edge that the cloud answers again
    record_bytes: float  # compressed, of one escalated row


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Whole shards from origin to site, and what they should cost."""

    counts: dict[tuple[str, str], int]
    seconds: float
    site_seconds: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)


class Rule(Protocol):
    """What a placement module offers."""

    def place(self, problem: Problem) -> Solution:
        """The placement; PlanError if there is none."""
        ...


RULES: Registry[Rule] = Registry(__name__, "placement rule")
