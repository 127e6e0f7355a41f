"""What a run had to leave open, told from the store alone: what its sites have done, and what is still to be done.

A site that was late or lost has no receipt, but what it did is in the ledger: a result is there or not, and remembers
what was packed of its shard. So nothing that is there is done or sent again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from data_catalog.errors import CorruptObject, ObjectMissing, UnknownName
from data_catalog.nouns import Escalated, Plan, Receipt, Report, Site, WorkOrder
from data_catalog.orders import Answered
from data_catalog.settlement import Unsettled
from infra import keys, orders
from infra.receipts import from_ledger, standings
from infra.storage import read_noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.storage import Store

WAITING = "waits for the cloud"
# Kinds of orders, with the number of the try behind them: rows that were picked; what of them did not arrive; shards that
# were left.
SENDS, AGAIN, REST = "sends", "again", "rest"


def read_unsettled(store: Store, run_id: str) -> Unsettled:
    """What a run left open.

    Raises:
        UnknownName: no such run, or it left nothing open.
    """
    key = keys.unsettled(run_id)
    try:
        return Unsettled.model_validate_json(store.get(key))
    except ObjectMissing as error:
        raise UnknownName.among("unsettled run", run_id, unsettled_runs(store)) from error
    except ValueError as error:
        raise CorruptObject(f"{key} does not say what a run left open; delete it and run again") from error


def open_runs(store: Store, dataset: str, model: str) -> list[str]:
    """The runs of a dataset and a model that left something open, the oldest first."""
    left: list[Unsettled] = []
    for run_id in unsettled_runs(store):
        with suppress(UnknownName):  # another process has settled it since it was listed
            left.append(read_unsettled(store, run_id))
    return [each.run_id for each in left if (each.dataset.name, each.model.name) == (dataset, model)]


def unsettled_runs(store: Store) -> list[str]:
    """The runs that left something open, the oldest first."""
    return sorted(key.rpartition("/")[2].removesuffix(".json") for key in store.keys(keys.UNSETTLED))


def read_plan(store: Store, report: Report) -> Plan:
    """The plan of a run, as it was when the run ended.

    Raises:
        CorruptObject: the object is none.
    """
    key = report.replanned[-1].plan if report.replanned else keys.run(report.run_id, "plan.json")
    try:
        return Plan.model_validate_json(store.get(key))
    except ValueError as error:
        raise CorruptObject(f"{key} is not a plan of this version; run again") from error


def read_report(store: Store, run_id: str) -> Report:
    """The report of a run.

    Raises:
        UnknownName: it has none: the run itself never ended.
    """
    key = keys.run(run_id, "report.json")
    try:
        return Report.model_validate_json(store.get(key))
    except ObjectMissing as error:
        raise UnknownName(f"run {run_id} never ended, so there is nothing to settle; run again") from error
    except ValueError as error:
        raise CorruptObject(f"{key} is not a report of this version; run again") from error


def receipts_of(store: Store, plan: Plan) -> list[Receipt]:
    """What the sites of a run did: by their receipts, and for a site whose order has none by the ledger.

    Of a shard that an edge answered without a receipt it is said what was packed; if that did not arrive, `sent` is false.
    """
    prefix = keys.run(plan.run_id, "receipts")
    receipts = [_counted(store, Receipt.model_validate_json(store.get(key))) for key in store.keys(prefix)]
    given = {receipt.order_id: set(receipt.withdrawn) for receipt in receipts}
    for site, mine in orders_of(store, plan).items():
        covered = {
            shard.result for order in mine if order.order_id in given for shard in order.shards
            if shard.result not in given[order.order_id]
        }  # fmt: skip
        open_order = next((order for order in mine if order.order_id not in given), None)
        if open_order is None:
            continue
        placed = [p for p in plan.placements if p.site == site and p.result not in covered]
        found = [standing for standing in standings(store, placed) if standing.size]
        if found:
            receipts.append(from_ledger(store, plan, open_order, found))
    return receipts


def orders_of(store: Store, plan: Plan) -> dict[str, list[WorkOrder]]:
    """By site of the plan: its orders to answer shards, the first one first; others follow where the plan was changed under way.

    Raises:
        CorruptObject: one of them is none.
    """
    found: dict[str, list[WorkOrder]] = {site: [] for site in sorted({p.site for p in plan.placements})}
    named = [(*_called(key), key) for key in store.keys(keys.run(plan.run_id, "orders"))]
    for site, kind, key in sorted(named):
        if site in found and (not kind or kind.isdigit() or kind.partition("-")[0] == REST):
            try:
                found[site].append(WorkOrder.model_validate_json(store.get(key)))
            except ValueError as error:
                raise CorruptObject(f"{key} is no order; delete that object and run again") from error
    return found


def _called(key: str) -> tuple[str, str]:
    """Site and kind of the order of that key."""
    site, _, kind = key.rpartition("/")[2].removesuffix(".json").partition(".")
    return site, kind


def _kinds(receipts: Iterable[Receipt], site: str, kind: str) -> list[str]:
    """The kinds, with their numbers, of a site's orders of a kind that have a receipt."""
    parts = (receipt.order_id.partition(".") for receipt in receipts)
    return [full for name, _, full in parts if name == site and full.partition("-")[0] == kind]


def _counted(store: Store, receipt: Receipt) -> Receipt:
    """A receipt with all that crossed the link for it, if the site is a process of its own."""
    key = keys.run(receipt.run_id, "answers", f"answer-{receipt.order_id}.json")
    answered = read_noun(store, key, Answered, "no answer of a site")
    return receipt.model_copy(update={"wan_in": answered.wan_in, "wan_out": answered.wan_out}) if answered else receipt


def read_order(store: Store, plan: Plan, site: str, kind: str = "") -> WorkOrder | None:
    """An order of a run; None if it was never written."""
    try:
        return WorkOrder.model_validate_json(store.get(keys.order(plan.run_id, site, kind)))
    except ObjectMissing:
        return None


def escalated_in(receipts: Iterable[Receipt]) -> dict[str, Escalated]:
    """By the name of the edge's result: what was packed of its shard; what arrived wins over what did not."""
    every = [escalated for receipt in receipts for escalated in receipt.escalated]
    return {escalated.shard: escalated for escalated in sorted(every, key=lambda escalated: escalated.sent)}


def picked_rows(store: Store, plan: Plan, receipts: Sequence[Receipt]) -> dict[str, list[int]] | None:
    """By the name of a result: the rows of its shard that the budget let go; None if it was never shared out."""
    chosen = [read_order(store, plan, site, SENDS) for site in sorted({p.site for p in plan.placements})]
    if not any(chosen):
        return None
    found: dict[str, list[int]] = {}
    for order in filter(None, chosen):
        assert order.escalation is not None
        done = {keys.order_id(order.site, kind) for kind in _kinds(receipts, order.site, SENDS)}
        held = max((receipt.held_rows for receipt in receipts if receipt.order_id in done), default=0)
        for number, row in order.escalation.picked[: len(order.escalation.picked) - held]:
            found.setdefault(order.shards[number].result, []).append(row)
    return found


def cut_off(store: Store, plan: Plan, sites: Sequence[Site]) -> list[str]:
    """Names of sites with a mailbox that have shards left and an order without an answer: it may wait behind a dead link."""
    left = {order.site for order in open_orders(store, plan)}
    said = set(store.keys(keys.run(plan.run_id, "answers")))
    silent = {
        site
        for site, mine in orders_of(store, plan).items()
        if any(keys.run(plan.run_id, "answers", f"answer-{order.order_id}.json") not in said for order in mine)
    }
    return [site.name for site in sites if site.dispatch == "mailbox" and site.name in left & silent]


def open_sends(store: Store, plan: Plan, receipts: Sequence[Receipt], number: int) -> list[str]:
    """The keys of orders to send the rows that were picked, of sites that were ordered to and have not."""
    chosen = [read_order(store, plan, site, SENDS) for site in sorted({p.site for p in plan.placements})]
    still = [order for order in chosen if order and not _kinds(receipts, order.site, SENDS)]
    return [write_order(store, plan, order, f"{SENDS}-{number}") for order in still]


def write_order(store: Store, plan: Plan, order: WorkOrder, kind: str) -> str:
    """Write an order under the name of its kind; its key. Raises as `orders.put_order`."""
    return orders.put_order(store, order.model_copy(update={"order_id": keys.order_id(order.site, kind)}), plan.access)


def open_orders(store: Store, plan: Plan) -> list[WorkOrder]:
    """For each site that the plan has shards at which have no result: one of its orders, with just these."""
    there = store.present([keys.result(placement.result) for placement in plan.placements])
    left = {(p.site, p.result) for p in plan.placements if keys.result(p.result) not in there}
    found = []
    for site, mine in orders_of(store, plan).items():
        shards = {shard.result: shard for order in mine for shard in order.shards if (site, shard.result) in left}
        if shards:
            found.append(mine[0].model_copy(update={"shards": tuple(shards.values()), "watched": False}))
    return found


def site_of(order_key: str, sites: Sequence[Site]) -> Site:
    """Whose an order is; what was escalated is answered by the first cloud."""
    name, _ = _called(order_key)
    if name == keys.ESCALATIONS:
        return next(site for site in sites if site.tier == "cloud")
    return next(site for site in sites if site.name == name)


def open_sites(late: Mapping[str, str]) -> dict[str, str]:
    """By site: why one of its orders did not end.

    Args:
        late: reasons, by the key of each order that did not end, or by the site.
    """
    return {_called(key)[0]: why for key, why in late.items()}


def added(sent: Iterable[tuple[str, int]]) -> dict[str, int]:
    """By site: the bytes that left it, of all its sources."""
    found: dict[str, int] = {}
    for site, size in sent:
        found[site] = found.get(site, 0) + size
    return found
