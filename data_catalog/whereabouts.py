"""Where the shards of a dataset are kept in mind to have been answered last. Conventions as in `data_catalog/nouns.py`."""

from __future__ import annotations

from data_catalog.nouns import Name, Noun


class Whereabouts(Noun):
    """By site, the shards of a dataset that it was given last, so that the next plan need not move them."""

    run_id: str  # that said so last
    shards: dict[Name, tuple[str, ...]]  # digests
