"""How a machine becomes a site, and stops being one: the coordinator's side of `cloudedge site`, and `join` at the machine.

An invitation is a token: whom to obey, where to send a registration, and a secret that the coordinator can make again from its
own key and keeps nowhere. The machine makes its key pair, sends the public key and what was measured there, with an HMAC by the
secret, and the coordinator admits it: it publishes the key, writes the site's entry beside those of the catalog, its
profile and its first mailbox. An invitation is good for one admission.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from data_catalog.access import Admission, Invitation, JoinedSite, Membership, Registration, Token
from data_catalog.errors import BadInput, CloudEdgeError, CorruptObject, ObjectMissing, UnknownName
from data_catalog.nouns import Noun
from infra import keys, membership, sites
from infra.mailbox import read_presence
from infra.security import letters, pairs, presigning, rotation, signing
from infra.signed_store import SignedStore
from infra.storage import read_noun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from data_catalog.nouns import Profile, Site
    from infra.storage import Store

Read = TypeVar("Read", bound=Noun)
TOKEN = "cloudedge1-"  # noqa: S105  how a token begins
REGISTRATION_BYTES = 2 << 20  # of a registration, and of the object with which the link is measured


def invite(store: Store, home: Path, site: Site, seconds: float) -> str:
    """The token with which one machine can join as this site; an older one of the site is worth nothing any more.

    Args:
        store: with the coordinator's credentials.
        home: with the coordinator's key.
        site: its entry.
        seconds: for which the token is good; at most a week.
    """
    private, now = signing.signing_key(home), time.time()
    seconds = min(seconds, presigning.LONGEST_SECONDS)
    invitation = Invitation(
        site=site.model_copy(update={"dispatch": "mailbox"}), nonce=secrets.token_hex(16), not_after=now + seconds
    )
    access = presigning.sign_access(
        store.signer(),
        [keys.mailbox(site.name), keys.trial(site.name)],
        [keys.registration(site.name), keys.trial(site.name)],
        now,
        int(seconds),
        REGISTRATION_BYTES,
    )
    _put(store, keys.invitation(site.name), invitation)
    token = Token(
        site=site.name,
        coordinator=signing.public_key(private),
        nonce=invitation.nonce,
        secret=signing.invitation_secret(private, site.name, invitation.nonce),
        not_after=invitation.not_after,
        access=access,
    )
    return TOKEN + base64.urlsafe_b64encode(zlib.compress(token.model_dump_json().encode(), 9)).decode().rstrip("=")


def read_token(text: str) -> Token:
    """The token of that text.

    Raises:
        BadInput: it is none, or its time is over.
    """
    packed = text.strip().removeprefix(TOKEN)
    try:
        token = Token.model_validate_json(zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))))
    except (ValueError, zlib.error) as error:
        raise BadInput("this is no token of `cloudedge site invite`; copy all of it, it is one line") from error
    if time.time() > token.not_after:
        raise BadInput(
            f"the token for site {token.site} has expired; make a new one: `cloudedge site invite {token.site}`"
        )
    return token


def join(home: Path, token: Token, version: str, measure: Callable[[Store, str], Profile]) -> Membership:
    """Make this machine the token's site: make its key pair, send the registration, keep whom to obey.

    Done again, it sends the same key. The coordinator has to admit it before it gets orders.

    Args:
        home: of this machine.
        token: the invitation.
        version: of cloudedge.
        measure: gives the profile of this machine as that site, with the store as the token lets it be reached.

    Raises:
        StoreError, StoreRefused: the registration cannot be sent; says why.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    held = pairs.private_keys(home, token.site)
    key = next(iter(held.values()), None) or pairs.make(home, token.site, pairs.CURRENT)
    store = SignedStore(token.access)
    registration = Registration(
        site=token.site,
        nonce=token.nonce,
        public_pem=key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        version=version,
        profile=measure(store, token.site),
    ).model_dump_json()
    admission = Admission(registration=registration, proof=_proof(token.secret, registration))
    store.put(keys.registration(token.site), admission.model_dump_json().encode())
    member = Membership(site=token.site, coordinator=token.coordinator, access=token.access)
    membership.keep_membership(home, member)
    return member


def is_admitted(home: Path, member: Membership) -> bool:
    """Whether the coordinator has written the site's first mailbox."""
    try:
        membership.MemberStore(home, member).get(keys.mailbox(member.site))
    except ObjectMissing:
        return False
    return True


def admit_waiting(store: Store, home: Path) -> list[str]:
    """Admit the machines that have registered with a good token, and take away the registrations of others.

    Returns:
        The names of the sites that were admitted.
    """
    admitted = []
    for name in _sites_with(store, keys.registration):
        admission = _read(store, keys.registration(name), Admission)
        invitation = _read(store, keys.invitation(name), Invitation)
        if admission and invitation and _admit(store, home, invitation, admission):
            admitted.append(name)
        store.delete(keys.registration(name))
    return admitted


def _admit(store: Store, home: Path, invitation: Invitation, admission: Admission) -> bool:
    """Admit one machine, if it has the secret of this invitation and came in time."""
    site, now = invitation.site, time.time()
    secret = signing.invitation_secret(signing.signing_key(home), site.name, invitation.nonce)
    if not hmac.compare_digest(_proof(secret, admission.registration), admission.proof):
        return False
    try:
        wish = Registration.model_validate_json(admission.registration)
        public = pairs.read_public(wish.public_pem.encode(), keys.registration(site.name))
    except (ValueError, CorruptObject):  # of another version: it has to join with the coordinator's
        return False
    if (wish.site, wish.nonce) != (site.name, invitation.nonce) or now > invitation.not_after + signing.SKEW_SECONDS:
        return False
    before = pairs.published(store, site.name)
    if before and pairs.pair_id(before) != pairs.pair_id(public):
        rotation.revoke(
            store, site.name
        )  # another machine is the site now; what was wrapped to the old one is lost to it
    pairs.publish(store, site.name, public)
    store.delete(keys.presence(site.name))
    if not (before and pairs.pair_id(before) == pairs.pair_id(public) and sites.read_profile(store, site.name)):
        _put(store, keys.profile(site.name), wish.profile.model_copy(update={"site": site.name}))
    if store.exists(keys.trial(site.name)):
        store.delete(keys.trial(site.name))
    entry = JoinedSite(
        site=site,
        since=now,
        version=wish.version,
        host=wish.profile.host,
        cores=wish.profile.cores,
        memory_bytes=wish.profile.memory_bytes,
        pair=pairs.pair_id(public),
        renewed=now,
    )
    _put(store, keys.joined(site.name), entry)
    store.delete(keys.invitation(site.name))  # before the mailbox: an invitation is good once
    letters.write_mailbox(store, site.name, letters.read_mailbox(store, site.name, home), home)
    return True


def joined_sites(store: Store, home: Path) -> dict[str, Site]:
    """The entries of the sites that joined, by name; who waits is admitted first."""
    admit_waiting(store, home)
    found = (letters.read_joined(store, name) for name in _sites_with(store, keys.joined))
    return {entry.site.name: entry.site for entry in found if entry}


def renew(store: Store, home: Path) -> list[str]:
    """Admit who waits, sign every mailbox anew for a week, and take in what sites delivered late.

    To be called now and then: a site whose mailbox nobody writes to for a week cannot read it any more.

    Returns:
        The sites, and what there is to say of each.
    """
    lines = [f"{name} is admitted" for name in admit_waiting(store, home)]
    for name in _sites_with(store, keys.joined):
        letters.write_mailbox(store, name, letters.read_mailbox(store, name, home), home)
        try:
            late = letters.take_in_late(store, name, home)
        except CloudEdgeError as error:
            lines.append(str(error))
        else:
            lines.append(f"{name} can read its mailbox for a week{f'; delivered late: {late}' if late else ''}")
    return lines


def drain(store: Store, site: str, undo: bool = False) -> None:
    """Let a site have no new work, or again; what it does it finishes.

    Raises:
        UnknownName: no such site joined.
    """
    entry = _require_joined(store, site)
    _put(
        store,
        keys.joined(site),
        entry.model_copy(update={"site": entry.site.model_copy(update={"draining": not undo})}),
    )


def remove(store: Store, home: Path, site: str) -> float:
    """Take a site's place and keys away.

    Its wrapped data keys and its public key go, its mailbox, and its entry. What was signed for it lives until it expires.

    Returns:
        Until when the last of its signatures lives.

    Raises:
        UnknownName: no such site joined or was invited.
    """
    if site not in _sites_with(store, keys.invitation):
        _require_joined(store, site)
    until = time.time()
    entry = letters.read_joined(store, site)
    if entry:
        until = entry.renewed + letters.NOTED_SECONDS + letters.MAILBOX_SECONDS
    for key in store.keys(keys.signed_orders(site)):
        try:
            until = max(until, letters.read_order(store, site, key, home).not_after)
        except CloudEdgeError:  # not ours: it opens nothing
            continue
    rotation.revoke(store, site)
    for key in store.keys(f"sites/{site}"):
        if not key.startswith(keys.training(site, "")):  # what it learnt stays
            store.delete(key)
    return until


@dataclass(frozen=True, slots=True)
class SiteLine:
    """A site as `cloudedge site list` shows it; times in seconds ago, None where there is none."""

    name: str
    state: str  # invited, joined, draining
    host: str
    version: str
    seen: float | None
    doing: str
    profile: float | None
    up_bytes_per_second: float | None
    down_bytes_per_second: float | None
    access: float | None  # seconds for which it can still read its mailbox


def list_sites(store: Store) -> list[SiteLine]:
    """The sites that joined or are invited, by name."""
    now, found = time.time(), []
    joined, invited = _sites_with(store, keys.joined), _sites_with(store, keys.invitation)
    for name in sorted({*joined, *invited}):
        entry = letters.read_joined(store, name)
        if entry is None:
            found.append(SiteLine(name, "invited", "", "", None, "", None, None, None, None))
            continue
        seen, profile = read_presence(store, name), sites.read_profile(store, name)
        found.append(
            SiteLine(
                name=name,
                state="draining" if entry.site.draining else "joined",
                host=seen.host if seen else entry.host,
                version=seen.version if seen else entry.version,
                seen=now - seen.at if seen else None,
                doing=seen.doing if seen else "",
                profile=now - profile.measured_at if profile else None,
                up_bytes_per_second=profile.up_bytes_per_second if profile else None,
                down_bytes_per_second=profile.down_bytes_per_second if profile else None,
                access=entry.renewed + letters.MAILBOX_SECONDS - now,
            )
        )
    return found


def _require_joined(store: Store, site: str) -> JoinedSite:
    entry = letters.read_joined(store, site)
    if entry is None:
        raise UnknownName.among("site that joined", site, _sites_with(store, keys.joined))
    return entry


def _sites_with(store: Store, key: Callable[[str], str]) -> list[str]:
    """The sites that have an object of that kind."""
    found = store.keys("sites")
    return sorted({name for name in (path.split("/")[1] for path in found) if key(name) in found})


def _read(store: Store, key: str, noun: type[Read]) -> Read | None:
    """As `read_noun`; what is something else is worth nothing."""
    try:
        return read_noun(store, key, noun, "not ours")
    except CorruptObject:
        return None


def _put(store: Store, key: str, noun: Noun) -> None:
    store.put(key, noun.model_dump_json(indent=1).encode())


def _proof(secret: str, registration: str) -> str:
    return hmac.digest(bytes.fromhex(secret), registration.encode(), "sha256").hex()
