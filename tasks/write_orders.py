"""Write the first work orders of a plan: what each site is to answer, and what it may escalate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import (
    EscalationOrder,
    OrderedShard,
    Placement,
    Plan,
    Site,
    WorkOrder,
)
from infra import keys, storage
from infra.codec_trials import ESCALATION_CODEC
from infra.orders import put_order


def write_orders(
    plan: Plan,
    sites: Sequence[Site],
    bucket: str,
    *,
    restricted: bool = False,
    watched: bool = False,
    number: int = 1,
) -> dict[str, str]:
    """Store a work order for every site that has shards in the plan; the orders' keys, by site.

    Args:
        plan: of the run.
        sites: of the run.
        bucket: of the store.
        restricted: whether records lie in the store encrypted.
        watched: whether the coordinator looks how far the sites are, and may take shards back.
        number: of the sites' orders: the first have 1.

    Raises:
        AccessDenied: the policy does not let this user do that any more.
    """
    store = storage.open_store(bucket)
    clouds = [site.name for site in sites if site.tier == "cloud"]
    written = {}
    for site in sorted(sites, key=lambda site: site.name):
        order = work_order(plan, site, clouds[:1] if restricted else None)
        order_id = keys.order_id(site.name, str(number) if number > 1 else "")
        order = order.model_copy(update={"order_id": order_id, "watched": watched})
        if order.shards:
            written[site.name] = put_order(store, order, plan.access)
    return written


def work_order(plan: Plan, site: Site, recipients: Sequence[str] | None) -> WorkOrder:
    """What one site is to do first: all shards that the plan gave it.

    Args:
        plan: of the run.
        site: which one.
        recipients: who has to read its escalated rows, if they are to be encrypted.
    """
    encrypted = recipients is not None
    card = plan.cards[site.name]
    threshold = plan.cascades[card.digest] if site.tier == "edge" else plan.cascade
    escalation = EscalationOrder(
        threshold=threshold.threshold,
        temperature=threshold.temperature,
        codec=ESCALATION_CODEC,
        cloud_variant=plan.variants["cloud"].answering,
        preprocessing=plan.preprocessing,
        shard_set=f"escalations of {plan.dataset} at {site.name} in run {plan.run_id}" if encrypted else "",
        recipients=tuple(recipients or ()),
        held=plan.budget is not None,
    )
    return WorkOrder(
        run_id=plan.run_id,
        order_id=site.name,
        site=site.name,
        tier=site.tier,
        card=card,
        batch=plan.batch_sizes[site.name],
        threads=site.threads,
        shards=tuple(
            OrderedShard(
                key=p.key, digest=p.shard.digest, rows=p.shard.rows, bytes=p.shard.bytes, codec=p.codec,
                result=p.result, local=p.shard.origin == site.name and site.shards_on_premises,
            )
            for p in _in_turn(plan, site)
        ),
        escalation=escalation if site.tier == "edge" else None,
        fallback=plan.fallbacks.get(site.name, ""),
    )  # fmt: skip


def _in_turn(plan: Plan, site: Site) -> list[Placement]:
    """The shards of a site: its own first, then the others' in the order in which they come, from all origins at once."""
    mine = [p for p in plan.placements if p.site == site.name]
    counts = Counter(p.shard.origin for p in mine)
    passed: Counter[str] = Counter()
    turns = []
    for p in mine:
        turns.append((p.shard.origin != site.name, passed[p.shard.origin] / counts[p.shard.origin]))
        passed[p.shard.origin] += 1
    return [mine[i] for i in sorted(range(len(mine)), key=turns.__getitem__)]


write_orders_task = task(name="write orders", cache_policy=NO_CACHE)(write_orders)
