"""The nouns of a run that is watched: how far a site is with an order, and what was taken back from it.

Conventions as in `data_catalog/nouns.py`. Each object has one writer.
"""

from __future__ import annotations

from data_catalog.nouns import Noun


class OrderProgress(Noun):
    """How far a site is with a work order; the site writes it while it works, once a beat."""

    order_id: str
    shards: int  # that it has computed and committed by now
    seconds: float  # since it began the order, and
    first_seconds: float | None = None  # until the first of them was committed, both by the site's own clock


class Withdrawal(Noun):
    """What a site need not answer any more if it has not begun it; the coordinator writes it, and it only grows."""

    results: tuple[str, ...] = ()  # names, as in the order
    send: tuple[
        str, ...
    ] = ()  # keys of shards on its premises that others need: to be stored where these can read them
