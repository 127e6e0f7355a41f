"""The main job: one batch of inference over data at many sites, as one accountable run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, SiteFailed
from data_catalog.nouns import EscalationBudget, Objective, Placement, Receipt, Report, Site
from data_catalog.orders import Sending
from data_catalog.planning import Demands
from data_catalog.settlement import Unsettled
from flows import _dispatching as dispatching
from flows._prepare import Entries, catalog_of, entries_of, halfway, new_run_id, prepare
from flows._watching import answer_watched, worth_watching
from flows.reconcile import reconcile
from infra import settlement, whereabouts
from infra.coordination import coordinating
from infra.demands import read_demands
from infra.pipeline import as_far_as, side_by_side
from infra.progress import Stopwatch
from infra.ration import read_budget, read_seconds, require_edges
from infra.settings import read_settings
from infra.storage import open_store
from infra.watching import Watched
from infra.workspace import workspace
from tasks.aggregate_results import aggregate_results_task
from tasks.keep_unsettled import keep_unsettled_task
from tasks.order_escalations import order_escalations_task
from tasks.order_sends import order_sends_task
from tasks.plan_placement import plan_placement_task
from tasks.publish_plan import publish_plan_task
from tasks.publish_profiles import publish_profiles_task
from tasks.publish_report import publish_report_task
from tasks.refine_profiles import refine_profiles_task
from tasks.write_orders import write_orders_task
from tasks.write_report import write_report_task


@flow(name="collaborate", flow_run_name="{dataset} answered by {model}")
def collaborate(
    dataset: Annotated[str, Field(description="Name of a dataset in the catalog")] = "mnist-5k",
    model: Annotated[str, Field(description="Name of a model in the catalog")] = "digits",
    sites: Annotated[
        tuple[str, ...], Field(description="Sites that take part; none: where the data is born, and cloud")
    ] = (),
    bound: Annotated[
        float, Field(description="How far below cloud-only the accuracy may lie; 0.005 is half a point", ge=0, le=1)
    ] = 0.005,
    confidence: Annotated[
        float, Field(description="With which the bound is to hold; 0: a margin instead of a promise", ge=0, lt=1)
    ] = 0.95,
    escalate_at_most: Annotated[
        tuple[str, ...],
        Field(
            description="Budget for escalations: rows (200), a size (50kB), a time on each link (10s) or a sum (2.5 money);"
            " of one site: edge-1=50kB"
        ),
    ] = (),
    objective: Annotated[Objective, Field(description="What the plan makes least")] = "makespan",
    at_most: Annotated[
        tuple[str, ...], Field(description="Caps: a time (30s), bytes over the links (5MB), a price (2.5 money)")
    ] = (),
    accuracy_at_least: Annotated[float, Field(description="Least expected accuracy; 0: no floor", ge=0, le=1)] = 0.0,
    rule: Annotated[
        str, Field(description="A placement rule; cloud-only, edge-only and equal-split are there to compare with")
    ] = "programme",
    deadline: Annotated[
        str,
        Field(
            description="Time (10min) after which the run ends with what is there, and names what is not; empty: none"
        ),
    ] = "",
    replan: Annotated[
        bool,
        Field(description="Move shards away from a site that falls behind or fails, if they may leave their origin"),
    ] = True,
    elastic: Annotated[
        bool, Field(description="Give work to sites of the catalog that come while the run is under way")
    ] = False,
) -> Report:
    """Answer every record of a dataset's batch, each exactly once, where it costs least.

    Preprocess and partition at every origin, plan in one place, compress at the origin, infer at the planned
    sites, let the cloud answer what the edges are unsure of, aggregate and report. What the ledger holds
    already is not computed again. Rows that the cloud cannot answer now keep the edge's answer and wait for `reconcile`.

    Raises:
        CloudEdgeError: what stopped the run; results committed so far stay, so the next run goes on.
    """
    budget = read_budget(escalate_at_most, "parameter `escalate_at_most`")
    demands = read_demands(objective, at_most, accuracy_at_least, "parameter `at_most`")
    ends = time.time() + read_seconds(deadline, "parameter `deadline`") if deadline else None
    settings = read_settings()
    bucket = settings.required_bucket()
    entries = entries_of(settings, dataset, model, sites)
    require_edges(budget, [site.name for site in entries.where if site.tier == "edge"], "parameter `escalate_at_most`")
    watch = Stopwatch()
    joining = partial(catalog_of, settings) if elastic else None
    with (
        coordinating(settings, f"runs-of-{dataset}", new_run_id(watch), until=ends) as run_id,
        workspace(settings.home) as work,
    ):
        report = _run(
            entries, run_id, bound, confidence, budget, demands, rule, replan, joining, ends, work, bucket, watch
        )
    if not report.open_reasons:  # what it answered may settle what earlier runs left open
        for earlier in settlement.open_runs(open_store(bucket), dataset, model):
            with suppress(BadInput):  # another run has settled it meanwhile, or this user may not
                as_far_as(reconcile, [earlier], ends, forgiving=True)
    return report


def _run(
    entries: Entries,
    run_id: str,
    bound: float,
    confidence: float,
    budget: EscalationBudget | None,
    demands: Demands,
    rule: str,
    replan: bool,
    joining: Callable[[], Catalog] | None,
    ends: float | None,
    work: Path,
    bucket: str,
    watch: Stopwatch,
) -> Report:
    """The stages, in order, in a folder of the run's own."""
    ready = prepare(entries, run_id, work, bucket, watch, ends)
    where, batch, chosen, profiles = ready.where, ready.batch, ready.chosen, ready.profiles
    named = {site.name: site for site in where}

    with watch.stage("plan"):
        plan = plan_placement_task(
            run_id, batch, ready.cards, chosen, where, profiles, ready.indexes, bound, bucket, confidence, budget,
            ready.fallbacks, demands, ready.options, rule=rule, silent=ready.silent,
        )  # fmt: skip
        publish_plan_task(plan, bucket)
        if worth_watching(plan, batch):  # otherwise no shard is placed anew
            whereabouts.remember(open_store(bucket), plan)
        watched = replan and rule == "programme" and worth_watching(plan, batch)
        orders = write_orders_task(plan, where, bucket, restricted=batch.sensitivity == "restricted", watched=watched)

    sendings: dict[str, Sending] = {}

    def compress(source: str) -> tuple[str, int]:
        origin = origin_of(source)
        mine: list[Placement] = [p for p in plan.placements if p.shard.source == source]
        with watch.stage("compress", origin.name):
            packed = dispatching.compress(origin, batch, source, mine, ready.sources[source].spool, run_id, bucket)
        sendings.update({origin.name: packed.sending} if packed.sending else {})
        return origin.name, ready.sources[source].wan_bytes + packed.wan_bytes

    def origin_of(source: str) -> Site:
        return named[batch.source(source).site]

    # sites that are processes of their own answer what is there while others still send their shards
    # who opens restricted shards gets the keys when they are sealed, so these are not answered meanwhile
    apart = batch.sensitivity == "restricted" or not all(site.dispatch == "mailbox" for site in where)
    # nobody but itself has to answer what a site has that is silent, so it is not waited for
    beside = [name for name in ready.sources if not apart or origin_of(name).name in ready.silent]
    first = [name for name in ready.sources if name not in beside]
    stored, unstored = dispatching.as_far_as_heard(compress, first, origin_of, halfway(ends))
    sent = list(stored.values())

    dispatch: dict[str, float] = {}
    answered = Watched(plan)

    def answer(order_key: str) -> Receipt:
        begun, site = time.time(), settlement.site_of(order_key, where)
        if site.name in answered.gone:
            raise SiteFailed(answered.gone[site.name])
        receipt = dispatching.answer(site, order_key, run_id, bucket)
        at_work = receipt.finished - receipt.started - receipt.seconds.get("look up", 0.0)
        dispatch[site.name] = time.time() - begun - at_work
        return receipt

    def first_answers() -> Watched:
        if watched:
            return answer_watched(plan, batch, where, profiles, ready, answer, bucket, joining, ends)
        receipts, late = as_far_as(answer, list(orders.values()), ends)
        return Watched(plan, receipts, late=late)

    def send_beside() -> Watched:
        came, left = dispatching.as_far_as_heard(compress, beside, origin_of, ends)
        unstored.update(left)
        return Watched(plan, sent=list(came.values()))

    with watch.stage("infer"):
        answered, others = side_by_side(lambda act: act(), [first_answers, send_beside])
        late = {origin_of(name).name: why for name, why in unstored.items()} | answered.late
        plan, receipts = answered.plan, answered.receipts
        sent += answered.sent + others.sent
        if answered.replanned:
            publish_plan_task(plan, bucket, len(answered.replanned))
            whereabouts.remember(open_store(bucket), plan)

    with watch.stage("escalate"):
        if budget:
            chosen_rows = order_sends_task(plan, where, profiles, bucket)
            sends, unsent = as_far_as(
                answer, chosen_rows, ends, forgiving=watched
            )  # who has answered may be gone by now
            receipts, late = receipts + sends, late | unsent
        cloud = next((site for site in where if site.tier == "cloud"), None)
        unsure = order_escalations_task(plan, receipts, cloud, bucket)
        mended, waiting = as_far_as(answer, [unsure] if unsure else [], ends, forgiving=True)
        receipts, left_open = receipts + mended, settlement.open_sites(late | waiting)
        unheard = {entries.batch.source(name).site for name in ready.unseen}
        left_open |= {name: why for name, why in ready.absent.items() if name in unheard}
        plan = plan.model_copy(update={"reasons": plan.reasons | ready.absent})
    measured = [profile for profile in profiles if profile.site not in ready.silent]
    refined = refine_profiles_task(measured, dispatch, [r for r in receipts if not r.lost], bucket, sendings)
    if ready.measured or refined != measured:
        publish_profiles_task(refined)

    with watch.stage("aggregate"):
        receipts = settlement.receipts_of(open_store(bucket), plan) if late else receipts
        totals = aggregate_results_task(plan, batch, entries.network, receipts, work, bucket, left_open)

    left_out = sum(source.quarantined_rows for source in ready.sources.values())
    if totals.pending or totals.missing or ready.before:
        left = Unsettled(
            run_id=run_id, dataset=batch, model=entries.network, sites=tuple(where), sent=settlement.added(sent),
            sources=tuple(sorted({*ready.before, *unstored})),
        )  # fmt: skip
        keep_unsettled_task(left, bucket, is_open=True)
    report = write_report_task(
        plan,
        where,
        receipts,
        totals,
        sent,
        ready.probe_bytes,
        watch,
        flow_run.name or "",
        bucket,
        left_out,
        answered.replanned,
        left_open,
        ready.unseen,
    )
    publish_report_task(report)
    return report
