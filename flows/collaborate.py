"""The main job: one batch of inference over data at many sites, as one accountable run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from data_catalog.nouns import EscalationBudget, Objective, Placement, Receipt, Report
from data_catalog.planning import Demands
from flows import _dispatching as dispatching
from flows._prepare import Entries, entries_of, new_run_id, prepare
from infra.coordination import coordinating
from infra.demands import read_demands
from infra.pipeline import side_by_side
from infra.progress import Stopwatch
from infra.ration import read_budget
from infra.settings import read_settings
from infra.workspace import workspace
from tasks.aggregate_results import aggregate_results_task
from tasks.order_escalations import order_escalations_task
from tasks.plan_placement import plan_placement_task
from tasks.publish_plan import publish_plan_task
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
        Field(description="Budget for escalations: rows (200), a size (50kB) or a time (10s)"),
    ] = (),
    objective: Annotated[Objective, Field(description="What the plan makes least")] = "makespan",
    at_most: Annotated[
        tuple[str, ...], Field(description="Caps: a time (30s), bytes over the links (5MB), a price (2.5 money)")
    ] = (),
    accuracy_at_least: Annotated[float, Field(description="Least expected accuracy; 0: no floor", ge=0, le=1)] = 0.0,
    rule: Annotated[
        str, Field(description="A placement rule; cloud-only, edge-only and equal-split are there to compare with")
    ] = "programme",
) -> Report:
    """Answer every record of a dataset's batch, each exactly once, where it costs least.

    Preprocess and partition at every origin, plan in one place, compress at the origin, infer at the planned
    sites, let the cloud answer what the edges are unsure of, aggregate and report. What the ledger holds
    already is not computed again.

    Raises:
        CloudEdgeError: what stopped the run; results committed so far stay, so the next run goes on.
    """
    budget = read_budget(escalate_at_most, "parameter `escalate_at_most`")
    demands = read_demands(objective, at_most, accuracy_at_least, "parameter `at_most`")
    settings = read_settings()
    bucket = settings.required_bucket()
    entries = entries_of(settings, dataset, model, sites)
    watch = Stopwatch()
    with (
        coordinating(settings, f"runs-of-{dataset}", new_run_id(watch)) as run_id,
        workspace(settings.home) as work,
    ):
        return _run(entries, run_id, bound, confidence, budget, demands, rule, work, bucket, watch)


def _run(
    entries: Entries,
    run_id: str,
    bound: float,
    confidence: float,
    budget: EscalationBudget | None,
    demands: Demands,
    rule: str,
    work: Path,
    bucket: str,
    watch: Stopwatch,
) -> Report:
    """The stages, in order, in a folder of the run's own."""
    where = entries.where
    ready = prepare(entries, run_id, work, bucket, watch)
    batch, chosen, profiles = ready.batch, ready.chosen, ready.profiles
    named = {site.name: site for site in where}

    with watch.stage("plan"):
        plan = plan_placement_task(
            run_id, batch, ready.cards, chosen, where, profiles, ready.indexes, bound, bucket, confidence, budget,
            ready.fallbacks, demands, ready.options, rule=rule,
        )  # fmt: skip
        publish_plan_task(plan, bucket)
        orders = write_orders_task(plan, where, profiles, bucket, restricted=batch.sensitivity == "restricted")

    def compress(source: str) -> tuple[str, int]:
        origin = named[batch.source(source).site]
        mine: list[Placement] = [p for p in plan.placements if p.shard.source == source]
        with watch.stage("compress", origin.name):
            crossed = dispatching.compress(origin, batch, source, mine, ready.sources[source].spool, run_id, bucket)
        return origin.name, ready.sources[source].wan_bytes + crossed

    # sites that are processes of their own answer what is there while others still send their shards
    beside = list(ready.sources) if all(site.dispatch == "mailbox" for site in where) else []
    sent = side_by_side(compress, [source for source in ready.sources if source not in beside])

    dispatch: dict[str, float] = {}

    def answer(site: str, order_key: str) -> Receipt:
        begun = time.time()
        receipt = dispatching.answer(named[site], order_key, run_id, bucket)
        dispatch[receipt.site] = time.time() - begun - (receipt.finished - receipt.started)
        return receipt

    with watch.stage("infer"):
        calls: list[Callable[[], Any]] = [partial(compress, source) for source in beside]
        calls += [partial(answer, site, order) for site, order in orders.items()]
        done = side_by_side(lambda call: call(), calls)
        sent, receipts = sent + done[: len(beside)], done[len(beside) :]

    with watch.stage("escalate"):
        cloud = next((site for site in where if site.tier == "cloud"), None)
        unsure = order_escalations_task(plan, receipts, cloud, bucket)
        if unsure and cloud:
            receipts.append(answer(cloud.name, unsure))
    refine_profiles_task(profiles, dispatch, receipts, bucket)

    with watch.stage("aggregate"):
        totals = aggregate_results_task(plan, batch, entries.network, receipts, work, bucket)

    left_out = sum(source.quarantined_rows for source in ready.sources.values())
    report = write_report_task(
        plan, where, receipts, totals, sent, ready.probe_bytes, watch, flow_run.name or "", bucket, left_out
    )
    publish_report_task(report)
    return report
