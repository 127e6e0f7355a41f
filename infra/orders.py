"""Write a site's work order: where it is decided again whether it may be given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import coordination, keys
from infra.security import policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import AccessDecision, WorkOrder
    from infra.storage import Store


def put_order(store: Store, order: WorkOrder, access: Sequence[AccessDecision]) -> str:
    """Store an order; its key.

    Args:
        store: where it goes.
        order: for one site.
        access: the decisions of the run's plan.

    Raises:
        AccessDenied: the policy does not let this user do that any more, or the site was never in the plan.
        Conflict: another coordinator has taken over.
    """
    order = order.model_copy(update={"access": policy.authorise_order(access, order.site)})
    key = keys.run(order.run_id, "orders", f"{order.order_id}.json")
    coordination.put(store, order.run_id, key, order.model_dump_json(indent=1).encode())
    return key
