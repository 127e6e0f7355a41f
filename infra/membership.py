"""What a site that joined keeps of that, and the store as it sees it: nothing is obeyed that the coordinator did not sign."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from data_catalog.access import Envelope, Membership
from data_catalog.errors import KeyMissing, OrderRefused, StoreRefused
from infra import keys as names
from infra.security import pairs, signing
from infra.signed_store import SignedStore

if TYPE_CHECKING:
    from pathlib import Path

MEMBERSHIP, DONE = "membership.json", "done.json"  # in the site's folder
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
        self._read_last = ""  # nonce of a mailbox
        self._orders: dict[str, Envelope] = {}  # begun, by the key of their answer

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to the site's own Dask workers with what it may touch now, but without its post."""
        return (SignedStore, tuple(self._grants))

    @property
    def _done(self) -> Path:
        return pairs.folder(self._home, self._membership.site) / DONE

    def get(self, key: str) -> bytes:
        """As `Store.get`; of the mailbox and of an order their bodies, verified.

        Raises:
            OrderRefused: forged, altered, for another site, expired or replayed.
        """
        site = self._membership.site
        if key == names.mailbox(site):
            return self._mailbox(key)
        data = super().get(key)
        if key.startswith(f"{names.signed_orders(site)}/"):
            return self._order(data, key)
        return data

    def _mailbox(self, key: str) -> bytes:
        member = self._membership
        try:
            data = super().get(key)
        except StoreRefused as error:
            raise StoreRefused(
                f"{error}; if this site was off for a week, or was removed: `cloudedge site invite {member.site}` at the"
                " coordinator, and here `cloudedge site join` with the token"
            ) from error
        envelope = signing.verify(data, member.coordinator, "mailbox", member.site, key)
        signing.require_new(self._done, envelope)
        if envelope.nonce != self._read_last:
            self._read_last = envelope.nonce
            self.allow(envelope.access)
            signing.note_done(self._done, envelope)
            if envelope.access.until > member.access.until + KEEP_SECONDS or member.access.until < time.time():
                self._membership = member.model_copy(update={"access": envelope.access})
                keep_membership(self._home, self._membership)
        return json.dumps(envelope.body).encode()

    def _order(self, data: bytes, key: str) -> bytes:
        member = self._membership
        envelope = signing.verify(data, member.coordinator, "order", member.site, key)
        if names.signed_order(member.site, envelope.nonce) != key:
            raise OrderRefused(f"{key} is another order than its name says: {envelope.order_id}")
        if envelope.answer not in self._orders:
            signing.require_new(self._done, envelope)
            self.allow(envelope.access)
            self._orders[envelope.answer] = envelope
        return json.dumps(envelope.body).encode()

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`; the answer to an order closes its outbox, and the order is not done again."""
        order = self._orders.get(key)
        if order and order.access.outbox:
            self.close_outbox(order.access.outbox)
        super().put(key, data)
        if order:
            signing.note_done(self._done, order)
            del self._orders[key]
