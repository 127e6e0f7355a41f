"""Nouns of planning: what a user asks of a plan."""

from __future__ import annotations

from pydantic import Field

from data_catalog.nouns import Noun, Objective


class Demands(Noun):
    """What a plan is to make least, and what it has to keep."""

    objective: Objective = "makespan"
    caps: dict[Objective, float] = Field(default_factory=dict)  # most seconds, bytes over the edges' links, money
    accuracy: float = Field(default=0.0, ge=0, le=1)  # the least expected accuracy, by rows; 0: no floor
