"""Order the edges to send rows that they are unsure of: those that gain most, or what did not arrive."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import OrderedShard, Plan, Profile, Site, WorkOrder
from infra import ration, receipts, settlement, storage
from infra.receipts import Standing


def order_sends(
    plan: Plan,
    sites: Sequence[Site],
    profiles: Sequence[Profile],
    bucket: str,
    unsent: Collection[str] = (),
    kind: str = settlement.SENDS,
) -> list[str]:
    """The keys of the orders, one for each edge that has to send something.

    Which rows gain most is known when all edges have answered. It is read from their results in the store, so that
    it costs no byte of a link.

    Args:
        plan: of the run, with its budget.
        sites: of the run.
        profiles: what was measured of each.
        bucket: of the store.
        unsent: names of results whose unsure rows did not arrive: all of them go, whatever the budget, and no others.
        kind: of the orders, in their keys.
    """
    store = storage.open_store(bucket)
    edges = [site for site in sites if site.tier == "edge"]
    found = [
        receipts.standings(
            store, [p for p in plan.placements if p.site == edge.name and (p.result in unsent or not unsent)]
        )
        for edge in edges
    ]
    unsure = [[receipts.unsure(plan, standing) for standing in mine] for mine in found]
    gains = [_gains(mine, rows) for mine, rows in zip(found, unsure, strict=True)]
    names = [edge.name for edge in edges]
    most: list[int | None] = [None] * len(edges)
    picked: list[NDArray[np.intp]] = [np.argsort(-gain, kind="stable") for gain in gains]
    if plan.budget and not unsent:
        costs = _costs(plan, sites, profiles)
        picked = ration.pick(plan.budget, names, gains, costs)
        most = ration.most_bytes(plan.budget, names, [len(rows) for rows in picked], costs)
    orders = settlement.orders_of(store, plan)
    return [
        _write(store, plan, orders[name], kind, mine, rows, chosen, size)
        for name, mine, rows, chosen, size in zip(names, found, unsure, picked, most, strict=True)
        if len(chosen)
    ]


def _gains(standings: Sequence[Standing], unsure: Sequence[NDArray[np.intp]]) -> NDArray[np.float32]:
    """(k,) what escalating each unsure row of a site is expected to gain: the probability that the edge is wrong."""
    parts = [
        1 - np.nan_to_num(standing.confidence[rows], nan=0.0)
        for standing, rows in zip(standings, unsure, strict=True) if standing.confidence is not None
    ]  # fmt: skip
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _costs(plan: Plan, sites: Sequence[Site], profiles: Sequence[Profile]) -> list[ration.Cost]:
    """Of each edge, what one of its escalated rows costs: its bytes, and money for its way and for the cloud's time."""
    known = {site.name: (site, profile) for site, profile in zip(sites, profiles, strict=True)}
    row = 0.0
    if cloud := next((site for site in sites if site.tier == "cloud"), None):
        profile = known[cloud.name][1]
        speed = profile.variants[plan.cards[cloud.name].digest]
        seconds = 1 / (speed.rows_per_second * min(cloud.threads, profile.cores))
        row = cloud.prices.row + cloud.prices.hour / 3600 * seconds + cloud.prices.gb_down / 1e9 * plan.record_bytes
    return [
        ration.Cost(plan.record_bytes, known[site.name][1].up_bytes_per_second, site.prices.gb_up / 1e9, row)
        for site in sites if site.tier == "edge"
    ]  # fmt: skip


def _write(
    store: storage.Store,
    plan: Plan,
    orders: Sequence[WorkOrder],
    kind: str,
    standings: Sequence[Standing],
    unsure: Sequence[NDArray[np.intp]],
    chosen: NDArray[np.intp],
    most_bytes: int | None,
) -> str:
    """Write the order of a kind of a site, out of those that it had to answer these shards."""
    first = orders[0]
    assert first.escalation is not None
    number = np.repeat(np.arange(len(standings)), [len(rows) for rows in unsure])[chosen]
    row = np.concatenate([np.zeros(0, np.intp), *unsure])[chosen]
    used = sorted(set(number.tolist()))
    place = {n: i for i, n in enumerate(used)}
    by_result: dict[str, OrderedShard] = {shard.result: shard for order in orders for shard in order.shards}
    order = first.model_copy(
        update={
            "watched": False,
            "shards": tuple(by_result[standings[n].placement.result] for n in used),
            "escalation": first.escalation.model_copy(
                update={
                    "held": False,
                    "picked": tuple((place[n], r) for n, r in zip(number.tolist(), row.tolist(), strict=True)),
                    "most_bytes": most_bytes,
                }
            ),
        }
    )
    return settlement.write_order(store, plan, order, kind)


order_sends_task = task(name="choose what to send", cache_policy=NO_CACHE)(order_sends)
