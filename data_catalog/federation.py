"""The nouns of federated training: what a federation is, what a site sends of a round, what came of it.

Conventions as in `data_catalog/nouns.py`. None of them has a place for a record: a site sends weights and counts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_catalog.nouns import AccessDecision, Name, Noun, VariantCard

Start = Literal["published", "fresh"]


class LocalTraining(Noun):
    """How a site trains in one round."""

    epochs: int = Field(default=2, ge=1, le=1000)  # over the site's own records
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(
        default=0.006, gt=0, le=1
    )  # in the first round; falls as half a cosine over the rounds


class Federation(Noun):
    """What is trained where and how; the same settings name the same federation, so that it can go on."""

    federation_id: str
    model: Name
    dataset: Name
    sites: tuple[Name, ...] = Field(min_length=1)
    shape: tuple[int, ...]  # of a record
    rounds: int = Field(ge=1)
    average: str
    local: LocalTraining
    start: Start
    weights: str  # key of those that the first round begins with
    digest: str  # of these
    quorum: int = Field(ge=1)  # updates without which a round fails


class SiteUpdate(Noun):
    """What a site made of the global weights in one round; also the description of its backup."""

    federation_id: str
    model: Name
    site: Name
    round: int
    key: str  # of the weights in the store
    digest: str  # of the NPZ, before encryption
    bytes: int
    origin: str  # digest of the global weights that it was made from
    rows: int = Field(ge=1)  # that it was trained on
    loss: float  # mean cross-entropy of the new weights on those
    held_out_rows: int = Field(ge=0)  # of the site's validation split,
    held_out_right: int = Field(ge=0)  # of which the global weights that the round began with are right on so many
    seconds: float


class Round(Noun):
    """What the coordinator made of a round."""

    number: int = Field(ge=0)  # from 1; 0 is the start, of no updates
    weights: str  # key of the global weights after it
    digest: str  # of these
    updates: tuple[SiteUpdate, ...]  # that were averaged
    left_out: dict[str, str]  # by site: the reason
    length: float  # Euclidean, of the step from the last global weights to these


class FederationReport(Noun):
    """What came of a federation."""

    federation: Federation
    rounds: tuple[Round, ...]
    outcome: Literal["published", "refused"]
    reason: str  # of the refusal; empty if it was published
    card: VariantCard | None  # of the int8 variant that was judged; None if its runtime cannot load it
    seconds: float  # of this run, which may have gone on with an earlier one
    key: str  # of the report
    access: tuple[AccessDecision, ...] = ()  # what let this run use the dataset
