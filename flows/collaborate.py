"""The main job: one batch of inference over data at many sites, as one accountable run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from data_catalog.catalog import Catalog
from data_catalog.nouns import Dataset, EscalationBudget, Model, Placement, Profile, Receipt, Report, Site
from flows import _dispatching as dispatching
from infra import choice, keys
from infra.partition import sized
from infra.pipeline import side_by_side
from infra.progress import Stopwatch
from infra.ration import read_budget
from infra.settings import read_settings
from infra.sites import read_profile
from infra.storage import open_store
from infra.workspace import workspace
from tasks.aggregate_results import aggregate_results_task
from tasks.choose_variants import choose_variants_task
from tasks.fit_transforms import fit_transforms_task
from tasks.offer_variants import offer_variants_task
from tasks.order_escalations import order_escalations_task
from tasks.plan_placement import plan_placement_task
from tasks.publish_cards import publish_cards_task
from tasks.publish_plan import publish_plan_task
from tasks.publish_report import publish_report_task
from tasks.refine_profiles import refine_profiles_task
from tasks.train_model import train_model_task
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
) -> Report:
    """Answer every record of a dataset's batch, each exactly once, where it costs least.

    Preprocess and partition at every origin, plan in one place, compress at the origin, infer at the planned
    sites, let the cloud answer what the edges are unsure of, aggregate and report. What the ledger holds
    already is not computed again.

    Raises:
        CloudEdgeError: what stopped the run; results committed so far stay, so the next run goes on.
    """
    budget = read_budget(escalate_at_most, "parameter `escalate_at_most`")
    settings = read_settings()
    bucket = settings.required_bucket()
    catalog = Catalog(settings.catalog_folders)
    batch, network = catalog.dataset(dataset, "parameter `dataset`"), catalog.model(model, "parameter `model`")
    where = catalog.sites(sites, batch, "parameter `sites`")
    school = catalog.dataset(network.trained_on, f"model {model}, key `trained_on`")
    with workspace(settings.home) as work:
        return _run(sized(batch, where), network, school, where, bound, confidence, budget, work, bucket)


def _run(
    batch: Dataset,
    network: Model,
    school: Dataset,
    where: list[Site],
    bound: float,
    confidence: float,
    budget: EscalationBudget | None,
    work: Path,
    bucket: str,
) -> Report:
    """The stages, in order, in a folder of the run's own."""
    watch = Stopwatch()
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(watch.started))}-{str(flow_run.id or '')[:8]}"

    with watch.stage("train"):
        batch, school = fit_transforms_task(batch, school, work, bucket)
        cards = train_model_task(network, school, work, bucket, where)
        publish_cards_task(list(cards.values()), watch.started)

    named = {site.name: site for site in where}

    def prepare(source: str) -> dispatching.Ready:
        origin = named.get(batch.source(source).site)
        return dispatching.prepare(origin, batch, source, run_id, work, bucket, watch)

    names = [source.name for source in batch.sources]
    ready = dict(zip(names, side_by_side(prepare, names), strict=True))
    indexes = [ready[source].index for source in names]

    dispatch: dict[str, float] = {}
    measured = 0

    def profiled(site: Site) -> Profile:
        known = read_profile(open_store(bucket), site.name)
        new = choice.unmeasured(known, offered[site.name])
        if known and not new:
            return known
        nonlocal measured
        begun = time.time()
        profile = dispatching.probe(site, new, run_id, bucket)
        measured += profile.probe_bytes if site.tier == "edge" else 0
        dispatch[site.name] = time.time() - begun - profile.probe_seconds
        return profile

    with watch.stage("probe"):  # one after another: sites of one machine would measure each other's load
        offered = offer_variants_task(cards, where, bucket)
        profiles = refine_profiles_task([profiled(site) for site in where], dispatch, [], {}, bucket)
        chosen, profiles, fallbacks = choose_variants_task(cards, where, offered, profiles, bucket)

    with watch.stage("plan"):
        plan = plan_placement_task(
            run_id, batch, cards, chosen, where, profiles, indexes, bound, bucket, confidence, budget, fallbacks
        )
        publish_plan_task(plan)

    def compress(source: str) -> tuple[str, int]:
        origin = named[batch.source(source).site]
        mine: list[Placement] = [p for p in plan.placements if p.shard.source == source]
        with watch.stage("compress", origin.name):
            crossed = dispatching.compress(origin, batch, source, mine, ready[source].spool, run_id, bucket)
        return origin.name, ready[source].wan_bytes + crossed

    sent = side_by_side(compress, names)

    dispatch.clear()

    def answer(site: str, order_key: str) -> Receipt:
        begun = time.time()
        receipt = dispatching.answer(named[site], order_key, run_id, bucket)
        dispatch[receipt.site] = time.time() - begun - (receipt.finished - receipt.started)
        return receipt

    with watch.stage("infer"):
        working = sorted({placement.site for placement in plan.placements})
        receipts = side_by_side(lambda name: answer(name, keys.run(run_id, "orders", f"{name}.json")), working)

    with watch.stage("escalate"):
        cloud = next((site for site in where if site.tier == "cloud"), None)
        unsure = order_escalations_task(plan, receipts, cloud, bucket)
        if unsure and cloud:
            receipts.append(answer(cloud.name, unsure))
    refine_profiles_task(profiles, dispatch, receipts, chosen, bucket)

    with watch.stage("aggregate"):
        totals = aggregate_results_task(plan, batch, network, receipts, work, bucket)

    left_out = sum(source.quarantined_rows for source in ready.values())
    report = write_report_task(
        plan, where, receipts, totals, sent, measured, watch, flow_run.name or "", bucket, left_out
    )
    publish_report_task(report)
    return report
