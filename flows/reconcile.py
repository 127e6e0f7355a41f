"""Settle what a run left open: shards that were not answered, rows that were not sent, rows that wait for the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from data_catalog.nouns import Receipt, Report
from flows import _dispatching as dispatching
from infra import settlement, silence
from infra.coordination import coordinating
from infra.pipeline import as_far_as
from infra.progress import Stopwatch, publish
from infra.security import letters
from infra.settings import read_settings
from infra.sites import read_profile
from infra.storage import open_store
from infra.workspace import workspace
from tasks.aggregate_results import aggregate_results_task
from tasks.keep_unsettled import keep_unsettled_task
from tasks.order_escalations import order_escalations_task
from tasks.order_rest import order_rest_task
from tasks.order_sends import order_sends_task
from tasks.publish_report import publish_report_task
from tasks.write_report import write_settled_report_task


@flow(name="reconcile", flow_run_name="reconcile {run_id}")
def reconcile(run_id: Annotated[str, Field(description="A run that left something open")]) -> Report:
    """Do what is left of a run, write its predictions and its report anew, and forget that it was open.

    What the store has is neither computed nor sent again; what still fails stays open, and may be tried again. A site
    that did not say what its source holds is asked again: if that is what was planned for, the run is settled. A run
    with a budget for escalations spends it once: what is answered after it was shared out keeps the edge's answer.

    Raises:
        UnknownName: no such run, or it left nothing open.
        CloudEdgeError: what stopped it; what was done so far stays.
    """
    settings = read_settings()
    bucket = settings.required_bucket()
    store = open_store(bucket)
    publish("reconcile", "coordinator", 0, 0, "")
    dataset = settlement.read_unsettled(store, run_id).dataset.name
    coordinated = coordinating(settings, f"runs-of-{dataset}", run_id, fresh=False)
    with coordinated, workspace(settings.home) as work:
        if run_id not in settlement.unsettled_runs(store):  # another one has settled it while this one waited
            return settlement.read_report(store, run_id)
        return _settle(run_id, bucket, work)


def _settle(run_id: str, bucket: str, work: Path) -> Report:
    """The stages, in order, in a folder of the run's own."""
    store = open_store(bucket)
    left = settlement.read_unsettled(store, run_id)
    left = left.model_copy(update={"tries": left.tries + 1})
    before = settlement.read_report(store, run_id)
    plan = settlement.read_plan(store, before)
    late: dict[str, str] = {}
    unseen = dict(before.unseen_sources)

    def answer(order_key: str) -> Receipt:
        return dispatching.answer(settlement.site_of(order_key, left.sites), order_key, run_id, bucket)

    def deliver(site: str) -> None:
        """Have a site that was cut off send what it has done, before anything is asked of it again."""
        dispatching.deliver(settlement.site_of(site, left.sites), left.tries, run_id, bucket)

    def ask_again(source: str) -> tuple[str, int]:
        """Have a source's shards stored where the plan wants them; whether it holds something else by now, and bytes."""
        origin = settlement.site_of(left.dataset.source(source).site, left.sites)
        ready = dispatching.prepare(origin, left.dataset, source, run_id, work, bucket, Stopwatch(), left.tries)
        if ready.index.fingerprint != plan.fingerprints[source]:
            unseen[source] = silence.CHANGED
            return origin.name, ready.wan_bytes
        unseen.pop(source, None)
        mine = [placement for placement in plan.placements if placement.shard.source == source]
        packed = dispatching.compress(origin, left.dataset, source, mine, ready.spool, run_id, bucket, left.tries)
        return origin.name, ready.wan_bytes + packed.wan_bytes

    def do(orders: list[str]) -> list[Receipt]:
        """Let the sites do these orders, but those that are silent; all receipts then."""
        orders = [key for key in orders if settlement.site_of(key, left.sites).name not in late]
        if orders:
            late.update(as_far_as(answer, orders, None, forgiving=True)[1])
        return settlement.receipts_of(store, plan)

    keep_unsettled_task(left, bucket, is_open=True)
    late.update(as_far_as(deliver, settlement.cut_off(store, plan, left.sites), None, forgiving=True)[1])
    for site in left.sites:
        letters.take_in_late(store, site.name)
    asked = [name for name in left.sources if left.dataset.source(name).site not in late]
    stored, unstored = as_far_as(ask_again, asked, None, forgiving=True)
    late.update({left.dataset.source(name).site: why for name, why in unstored.items()})
    receipts = do(order_rest_task(plan, left.tries, bucket))
    if plan.budget and settlement.picked_rows(store, plan, receipts) is None:
        profiles = [read_profile(store, site.name) for site in left.sites]
        receipts = do(order_sends_task(plan, left.sites, [p for p in profiles if p], bucket))
    elif plan.budget:
        receipts = do(settlement.open_sends(store, plan, receipts, left.tries))
    if unsent := [e.shard for e in settlement.escalated_in(receipts).values() if not e.sent]:
        again = f"{settlement.AGAIN}-{left.tries}"
        receipts = do(order_sends_task(plan, left.sites, [], bucket, unsent, again))
    cloud = next((site for site in left.sites if site.tier == "cloud"), None)
    unsure = order_escalations_task(plan, receipts, cloud, bucket, left.tries)
    receipts, still = do([unsure] if unsure else []), settlement.open_sites(late)
    totals = aggregate_results_task(plan, left.dataset, left.model, receipts, work, bucket, still)
    left = left.model_copy(
        update={
            "sent": settlement.added([*left.sent.items(), *stored]),
            "sources": tuple(name for name in left.sources if left.dataset.source(name).site in late),
        }
    )
    is_open = bool(totals.pending or totals.missing or left.sources)
    sent = list(left.sent.items())
    report = write_settled_report_task(before, plan, left.sites, receipts, totals, sent, bucket, still, unseen)
    keep_unsettled_task(left, bucket, is_open=is_open)
    publish_report_task(report)
    return report
