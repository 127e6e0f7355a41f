"""What a run that has ended left open, kept until it is settled."""

from __future__ import annotations

from data_catalog.nouns import Dataset, Model, Name, Noun, Site


class Unsettled(Noun):
    """A run whose rows are not all answered, or wait for the cloud; with its plan it is all that settling takes."""

    run_id: str
    dataset: Dataset  # as the run knew it,
    model: Model
    sites: tuple[Site, ...]
    sent: dict[Name, int]  # by site: bytes of shards that left it when they were compressed
    sources: tuple[Name, ...] = ()  # whose site has not said what they hold now, or has not stored their shards
    tries: int = 0  # to settle it; no two orders of a run have one name
