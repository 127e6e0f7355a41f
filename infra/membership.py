"""What a site that joined keeps of that, and the store as it sees it: nothing is obeyed that the coordinator did not sign."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from data_catalog.access import Envelope, Membership, Parcels
from data_catalog.errors import KeyMissing, OrderRefused, StoreRefused
from infra import keys as names
from infra.security import pairs, signing
from infra.signed_store import SignedStore

if TYPE_CHECKING:
    from pathlib import Path

MEMBERSHIP, DONE, BEGUN = "membership.json", "done.json", "orders"  # in the site's folder
KEEP_SECONDS = 600.0  # between two times that the access to the next mailbox is written to the disk


def read_membership(home: Path, site: str) -> Membership | None:
    """Whom the site obeys and how it reaches its mailbox; None: it did not join.

    Raises:
        KeyMissing: the file cannot be read.
    """
    path = pairs.folder(home, site) / MEMBERSHIP
    try:
        return Membership.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KeyMissing(f"{path} cannot be read; restore it, or join again") from error


def keep_membership(home: Path, membership: Membership) -> None:
    """Write it to the site's folder, for the owner alone."""
    signing.write_private(pairs.folder(home, membership.site) / MEMBERSHIP, membership.model_dump_json().encode())


class MemberStore(SignedStore):
    """The store of a site that joined. Mailbox and orders are verified as they are read, and give their contents."""

    def __init__(self, home: Path, membership: Membership) -> None:
        """Use what the site kept.

        Args:
            home: with the site's folder.
            membership: of the site.
        """
        super().__init__(membership.access)
        self._home, self._membership = home, membership
        self._read_last, self._post = "", membership.access  # nonce of a mailbox, and its access
        self._reading_post = threading.RLock()
        self._orders: dict[str, Envelope] = {}  # begun, by the key of their answer
        for path in sorted(
            self._kept.glob("*.json")
        ):  # by a process that was killed: it may still read and write for them
            try:
                self._begin(self._verified(path.read_bytes(), path.name))
            except OrderRefused:  # too late, or damaged
                path.unlink()

        for path in self._kept.glob("*.parcels"):  # what lies in which slot of their outboxes
            parcels = Parcels.model_validate_json(path.read_bytes())
            self._parcels[names.outbox(membership.site, path.stem)] = dict(parcels.sent)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to the site's own Dask workers with what it may touch now, but without its post."""
        return (SignedStore, tuple(self._grants))

    @property
    def _done(self) -> Path:
        return pairs.folder(self._home, self._membership.site) / DONE

    @property
    def _kept(self) -> Path:
        return pairs.folder(self._home, self._membership.site) / BEGUN

    def get(self, key: str) -> bytes:
        """As `Store.get`; of the mailbox and of an order their bodies, verified. An order that was begun is on the disk.

        Raises:
            OrderRefused: forged, altered, for another site, expired or replayed.
        """
        site = self._membership.site
        if key == names.mailbox(site):
            return self._mailbox(key)
        return self._order(key) if key.startswith(f"{names.signed_orders(site)}/") else super().get(key)

    def _mailbox(self, key: str) -> bytes:
        with self._reading_post:  # of two threads none reads an older one after a newer one
            member = self._membership
            try:
                data = super().get(key)
            except StoreRefused as error:
                raise StoreRefused(
                    f"{error}; if this site was off for a week, or was removed: `cloudedge site invite {member.site}` at"
                    " the coordinator, and here `cloudedge site join` with the token"
                ) from error
            envelope = signing.verify(data, member.coordinator, "mailbox", member.site, key)
            signing.require_new(self._done, envelope)
            if envelope.nonce != self._read_last:
                self.allow(envelope.access, instead=self._post)
                self._read_last, self._post = envelope.nonce, envelope.access
                signing.note_done(self._done, envelope)
                if envelope.access.until > member.access.until + KEEP_SECONDS or member.access.until < time.time():
                    self._membership = member.model_copy(update={"access": envelope.access})
                    keep_membership(self._home, self._membership)
            return json.dumps(envelope.body).encode()

    def _order(self, key: str) -> bytes:
        path = self._kept / key.rpartition("/")[2]
        data = path.read_bytes() if path.is_file() else super().get(key)
        envelope = self._verified(data, key)
        if names.signed_order(self._membership.site, envelope.nonce) != key:
            raise OrderRefused(f"{key} is another order than its name says: {envelope.order_id}")
        with self._reading_post:
            if envelope.answer not in self._orders:
                signing.require_new(self._done, envelope)
                signing.write_private(path, data)
                self._begin(envelope)
        return json.dumps(envelope.body).encode()

    def _verified(self, data: bytes, name: str) -> Envelope:
        return signing.verify(data, self._membership.coordinator, "order", self._membership.site, name)

    def _begin(self, order: Envelope) -> None:
        self.allow(order.access)
        self._orders[order.answer] = order

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`; the answer to an order closes its outbox, and the order is not done again."""
        order = self._orders.get(key)
        if order and order.access.outbox:
            self.close_outbox(order.access.outbox)
        super().put(key, data)
        if order:
            with self._reading_post:
                signing.note_done(self._done, order)
            for path in (self._kept / f"{order.nonce}.json", self._parcels_file(order.access.outbox)):
                path.unlink(missing_ok=True)
            self.forget(order.access)
            del self._orders[key]

    def _slot_taken(self, outbox: str) -> None:
        signing.write_private(
            self._parcels_file(outbox), Parcels(sent=self._parcels[outbox]).model_dump_json().encode()
        )

    def _parcels_file(self, outbox: str) -> Path:
        return self._kept / f"{outbox.rpartition('/')[2]}.parcels"
