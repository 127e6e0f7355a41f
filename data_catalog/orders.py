"""Nouns between the coordinator and a site that is a process of its own: letters, orders, answers, signs of life."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from data_catalog.nouns import Dataset, Name, Noun, Placement, Site, VariantCard

Kind = Literal["probe", "prepare", "compress", "answer", "deliver"]


class Letter(Noun):
    """Names an order: what kind it is, where it lies, where the answer goes, and until when it is waited for."""

    order_id: str  # no two orders ever have the same
    kind: Kind
    key: str  # of the order
    answer: str  # key
    deadline: float


class Mailbox(Noun):
    """All letters to a site that are not answered yet; the coordinator alone writes it."""

    letters: tuple[Letter, ...] = ()


class Presence(Noun):
    """A sign of life of a site's process."""

    site: Name
    host: str
    pid: int
    version: str  # of cloudedge
    started: float
    at: float
    doing: str = ""  # order that it works on


class ProbeOrder(Noun):
    """Measure the site with these variants; the answer is its `Profile`."""

    site: Site
    cards: tuple[VariantCard, ...]


class PrepareOrder(Noun):
    """Preprocess a source and cut it into shards; the answer is `Prepared`."""

    dataset: Dataset
    source: str
    threads: int = Field(ge=1)


class Prepared(Noun):
    """The fingerprint of the preprocessed batch, whose indexes are in the store, and what was left out of it."""

    fingerprint: str
    quarantined_rows: int


class CompressOrder(Noun):
    """Compress a source's shards; those that leave go into the store. The answer is `Compressed`."""

    dataset: Dataset
    source: str
    placements: tuple[Placement, ...]
    on_premises: bool  # those that the site itself answers stay in its own folder
    threads: int = Field(ge=1)


class Sending(Noun):
    """What crossed a link, and how long: the seconds in which one object at least was on its way."""

    objects: int = Field(ge=1)
    bytes: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class Compressed(Noun):
    """Bytes of shards that were written, and those of them that left the site."""

    bytes: int
    wan_bytes: int
    sending: Sending | None = None  # of those that left


class DeliverOrder(Noun):
    """Send what waits on the site's disk; whoever has the answer, which says nothing, has all of that."""


class Failure(Noun):
    """Why an order could not be done: an error's class and its line."""

    error: str
    message: str


class Answered(Noun):
    """What became of an order: the answer as its kind says, or the failure. A receipt lies where it always does."""

    order_id: str
    site: Name
    body: dict[str, Any] | None = None
    failure: Failure | None = None
    began: float
    ended: float
    wan_in: int  # content that crossed the site's link for it
    wan_out: int
