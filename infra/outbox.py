"""What a site sent that could not name it before: put where it belongs, if its order allows that.

The site wrote each object into a slot, and at the end `Parcels`: which object is in which slot. Objects whose names are
digests of their content, and wrapped keys, are never written over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_catalog.access import Parcels
from data_catalog.errors import SiteFailed
from infra import keys
from infra.pipeline import side_by_side
from infra.storage import read_noun

if TYPE_CHECKING:
    from data_catalog.access import Envelope
    from infra.storage import Store

KEPT = ("escalations/", f"{keys.DATA_KEYS}/")  # beginnings of what is never written over
AT_A_TIME = 8


def collect(store: Store, order: Envelope) -> int:
    """Deliver what lies in an order's outbox, and empty it; interrupted, it can be done again.

    Args:
        store: with the coordinator's credentials.
        order: verified; says where its objects may go.

    Returns:
        How many objects were delivered.

    Raises:
        SiteFailed: the site sent something under a name that its order does not allow; nothing is delivered.
    """
    outbox = order.access.outbox
    parcels = read_noun(store, keys.parcels(outbox), Parcels, "no list of parcels")
    if not parcels:
        return 0
    for key, slot in parcels.sent.items():
        if not (
            key.startswith(order.access.delivers) and slot in order.access.writes and slot.startswith(f"{outbox}/")
        ):
            raise SiteFailed(
                f"site {order.site} sent {key} for order {order.order_id}, which does not allow it; if that machine may be in"
                f" other hands: `cloudedge site remove {order.site}`"
            )
        if ".." in key.split("/"):  # a gateway over a file system follows it
            raise SiteFailed(f"site {order.site} sent {key}, which is no name of an object; remove that site")

    def deliver(parcel: tuple[str, str]) -> None:
        key, slot = parcel
        there = store.present([key, slot])
        if slot in there and not (key in there and key.startswith(KEPT)):
            store.copy(slot, key)
        store.delete(slot)

    sent = list(parcels.sent.items())
    for first in range(0, len(sent), AT_A_TIME):
        side_by_side(deliver, sent[first : first + AT_A_TIME])
    store.delete(keys.parcels(outbox))
    return len(sent)
