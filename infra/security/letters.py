"""The mailbox and the orders of a site that joined: signed by the coordinator, with the access that they need and no more.

Other sites that are processes of their own have the store's credentials; theirs are plain. A site that joined obeys
nothing that is not signed, and its mailbox is renewed with each letter: it names the access to the next one.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

from data_catalog.access import Envelope, JoinedSite
from data_catalog.errors import CorruptObject, ObjectMissing, OrderRefused, SiteFailed
from data_catalog.nouns import Receipt, WorkOrder
from data_catalog.orders import CompressOrder, Mailbox, PrepareOrder
from infra import keys, outbox
from infra.security import policy, presigning, scopes, signing
from infra.settings import read_settings
from infra.storage import read_noun

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from data_catalog.nouns import Site
    from data_catalog.orders import Kind, Letter
    from infra.storage import Store

MAILBOX_SECONDS = presigning.LONGEST_SECONDS  # for which a site may be off and still find its mailbox
LATE_SECONDS = 24 * 3600  # after its deadline an order can still be delivered: its site may have been cut off
NOTED_SECONDS = 3600  # between two times that the entry of a site notes its renewal
SMALL_BYTES = 16 << 20  # of an answer, a sign of life


def read_joined(store: Store, site: str) -> JoinedSite | None:
    """The entry of a site that joined, or None."""
    return read_noun(store, keys.joined(site), JoinedSite, "no entry of a site")


def sign_letter(store: Store, site: str, letter: Letter, home: Path | None = None) -> Letter:
    """The letter with its order signed, if the site joined; else as it is.

    Args:
        store: with the coordinator's credentials.
        site: whom it is for.
        letter: names the plain order in the store.
        home: with the coordinator's key; None: as the settings say.

    Raises:
        AccessDenied: the policy, or the hour, does not let this user have that done with those data any more.
    """
    entry = read_joined(store, site)
    if not entry:
        return letter
    body = json.loads(store.get(letter.key))
    _authorise(letter.kind, body, entry.site)
    scope = scopes.SCOPES[letter.kind](store, site, body)
    folder = keys.outbox(site, secrets.token_hex(8))
    places = [keys.slot(folder, number) for number in range(scope.slots)]
    now = time.time()
    access = presigning.sign_access(
        store.signer(),
        scope.reads,
        {letter.answer, *scope.writes, *places, *([keys.parcels(folder)] if places else [])},
        now,
        int(letter.deadline - now) + LATE_SECONDS,
        scope.most_bytes,
        folder if places else "",
        scope.delivers,
    )
    envelope = signing.enclose("order", site, letter.order_id, body, access, now, letter.kind, letter.answer)
    signed = keys.signed_order(site, envelope.nonce)
    store.put(signed, signing.sign(_key(home), envelope))
    return letter.model_copy(update={"key": signed})


def _authorise(kind: Kind, body: Any, site: Site) -> None:
    """Ask the policy again, now, for an order that is about to be signed; one to probe or to deliver touches no records."""
    if kind == "answer":
        decision = WorkOrder.model_validate(body).access
        policy.authorise_order([decision] if decision else [], site.name)
    elif kind == "prepare":
        policy.authorise("run", PrepareOrder.model_validate(body).dataset, [site])
    elif kind == "compress":
        policy.authorise("run", CompressOrder.model_validate(body).dataset, [site])


def read_mailbox(store: Store, site: str, home: Path | None = None) -> Mailbox:
    """The letters to a site, as the coordinator reads them; of one that joined, only what the coordinator itself signed.

    One that is no mailbox is taken for empty: who waits posts again, and so writes it anew.
    """
    name, joined = keys.mailbox(site), read_joined(store, site)
    try:
        if not joined:
            return read_noun(store, name, Mailbox, "no mailbox") or Mailbox()
        found = signing.verify(store.get(name), signing.public_key(_key(home)), "mailbox", site, name)
    except (ObjectMissing, OrderRefused, CorruptObject):  # none yet, too old, another's, or broken
        return Mailbox()
    return Mailbox.model_validate(found.body)


def write_mailbox(store: Store, site: str, mailbox: Mailbox, home: Path | None = None) -> None:
    """Write the letters to a site; signed, with access to them and to the next mailbox, if the site joined."""
    entry = read_joined(store, site)
    if entry is None:
        store.put(keys.mailbox(site), mailbox.model_dump_json().encode())
        return
    now = time.time()
    answers = {letter.answer for letter in mailbox.letters}
    access = presigning.sign_access(
        store.signer(),
        {keys.mailbox(site), *answers, *(letter.key for letter in mailbox.letters)},
        {keys.presence(site), *answers},
        now,
        MAILBOX_SECONDS,
        SMALL_BYTES,
    )
    envelope = signing.enclose("mailbox", site, "", mailbox.model_dump(mode="json"), access, now)
    store.put(keys.mailbox(site), signing.sign(_key(home), envelope))
    if now - entry.renewed > NOTED_SECONDS:
        store.put(keys.joined(site), entry.model_copy(update={"renewed": now}).model_dump_json(indent=1).encode())


def receive(store: Store, site: str, letter: Letter, home: Path | None = None) -> None:
    """Take in what a site that joined did for a letter that it has answered.

    Raises:
        SiteFailed: it says or sends what its order does not allow.
    """
    if letter.key.startswith(keys.signed_orders(site)):
        take_in(store, read_order(store, site, letter.key, home))


def take_in(store: Store, order: Envelope) -> int:
    """Deliver an order's outbox, and look at its receipt; returns how many objects were delivered.

    Raises:
        SiteFailed: the site says or sends what its order does not allow.
    """
    count = outbox.collect(store, order) if order.access.outbox else 0
    if order.does == "answer":
        require_honest(store, order)
    return count


def take_in_late(store: Store, site: str, home: Path | None = None) -> int:
    """Take in what a site did for orders that nobody waited for any more, and forget orders whose time is over.

    Returns:
        How many objects were delivered.

    Raises:
        SiteFailed: as `take_in`.
    """
    count = 0
    for key in store.keys(keys.signed_orders(site)):
        order = read_order(store, site, key, home)
        count += take_in(store, order)
        if time.time() > order.not_after + signing.SKEW_SECONDS:
            for left in store.keys(order.access.outbox) if order.access.outbox else []:
                store.delete(left)
            store.delete(key)
    return count


def read_order(store: Store, site: str, key: str, home: Path | None = None) -> Envelope:
    """An order that the coordinator signed, read back; as old as it may be."""
    return signing.verify(store.get(key), signing.public_key(_key(home)), "order", site, key, expired=True)


def require_honest(store: Store, envelope: Envelope) -> None:
    """Compare the receipt of a work order with the order: whatever it names is used with the coordinator's credentials.

    Raises:
        SiteFailed: the receipt names another's run, result or rows, and is deleted; says which.
    """
    order = WorkOrder.model_validate(envelope.body)
    name = keys.run(order.run_id, "receipts", f"{order.order_id}.json")
    receipt = read_noun(store, name, Receipt, "no receipt")
    if receipt is None:  # the answer says why
        return
    results = {shard.result for shard in order.shards}
    wrong = [what for what in ("run_id", "order_id", "site", "tier") if getattr(receipt, what) != getattr(order, what)]
    for packed in receipt.escalated:
        ours = order.escalation and keys.escalation(packed.digest, packed.codec, bool(order.escalation.shard_set))
        answer = order.escalation and keys.result_name(
            packed.digest, order.escalation.cloud_variant, order.escalation.preprocessing
        )
        if packed.shard not in results or packed.key != ours or packed.result != answer:
            wrong.append(packed.key)
    if wrong:
        store.delete(name)
        raise SiteFailed(
            f"site {envelope.site} says of order {envelope.order_id} what the order does not ask for ({wrong[0]}); if that"
            f" machine may be in other hands: `cloudedge site remove {envelope.site}`"
        )


def _key(home: Path | None) -> Ed25519PrivateKey:
    return signing.signing_key(home or read_settings().home)
