"""Nouns of a site that holds no credentials: what it may touch in the store, and the orders that say so."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from data_catalog.nouns import Name, Noun, Profile, Site


class Access(Noun):
    """Signatures that let whoever has them read and write single objects until a moment; see `infra/security/presigning.py`."""

    bucket: str
    url: str  # of the bucket, as the site reaches it
    until: float
    read: str  # the query of every read, without its signature
    reads: dict[str, str]  # by key: the signature of its read
    form: dict[str, str]  # fields of every write, without its key, its policy and the policy's signature
    expiration: str  # of every write's policy, ISO 8601
    most_bytes: int = Field(ge=0)  # of an object that is written
    writes: dict[str, str]  # by key: the signature of its policy
    outbox: str = ""  # folder of those of `writes` that take objects whose names are not known before, and
    delivers: tuple[str, ...] = ()  # how the names of these may begin


class Parcels(Noun):
    """What a site left in its outbox: by the key that an object should have, the key under which it lies."""

    sent: dict[str, str]


class Envelope(Noun):
    """What the coordinator signs for one site; its exact JSON bytes are what is signed."""

    kind: Literal["order", "mailbox"]
    site: Name
    order_id: str
    nonce: str  # no two envelopes have the same
    not_before: float  # when it was signed
    not_after: float
    body: dict[str, Any]  # the order, or the mailbox
    access: Access
    does: str = ""  # of an order: its kind, as its letter says, and
    answer: str = ""  # the key of its answer


class Membership(Noun):
    """What a machine keeps of being a site: whom it obeys, and how it reaches its mailbox."""

    site: Name
    coordinator: str  # its public signing key, Base64
    access: Access


class Invitation(Noun):
    """That a machine may join as this site, once; the secret that proves it is in the token alone."""

    site: Site
    nonce: str
    not_after: float


class Token(Noun):
    """What `cloudedge site invite` prints and `cloudedge site join` reads."""

    site: Name
    coordinator: str  # its public signing key, Base64
    nonce: str  # of the invitation
    secret: str  # hexadecimal: the key of the registration's HMAC
    not_after: float
    access: Access


class Registration(Noun):
    """A machine's wish to be a site."""

    site: Name
    nonce: str  # of the invitation
    public_pem: str  # to wrap data keys to
    version: str  # of cloudedge
    profile: Profile  # what was measured there: machine and link, of no variant yet


class Admission(Noun):
    """A registration and the proof that its sender has the token: HMAC-SHA256 of the registration's exact JSON text."""

    registration: str
    proof: str  # hexadecimal


class JoinedSite(Noun):
    """A site that joined: its entry, beside those of the catalog's folders."""

    site: Site
    since: float
    version: str
    host: str
    cores: int
    memory_bytes: int
    pair: str  # id of its public key
    renewed: float  # when its access to the mailbox was signed last
