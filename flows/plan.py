"""The plan of a run before it runs: everything up to the plan, and no order is given."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from data_catalog.nouns import Objective, Plan
from flows._prepare import entries_of, new_run_id, prepare
from infra.demands import read_demands
from infra.progress import Stopwatch
from infra.settings import read_settings
from infra.workspace import workspace
from tasks.plan_placement import plan_placement_task
from tasks.publish_plan import publish_plan_task
from tasks.publish_profiles import publish_profiles_task


@flow(name="plan", flow_run_name="plan {dataset} answered by {model}")
def plan(
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
    objective: Annotated[Objective, Field(description="What the plan makes least")] = "makespan",
    at_most: Annotated[
        tuple[str, ...], Field(description="Caps: a time (30s), bytes over the links (5MB), a price (2.5 money)")
    ] = (),
    accuracy_at_least: Annotated[float, Field(description="Least expected accuracy; 0: no floor", ge=0, le=1)] = 0.0,
    afresh: Annotated[bool, Field(description="Plan as if the ledger held nothing")] = False,
) -> Plan:
    """Plan what a run with these parameters would do. What has to be trained, cut or measured for that stays for the run.

    Raises:
        CloudEdgeError: what stopped it.
    """
    demands = read_demands(objective, at_most, accuracy_at_least, "parameter `at_most`")
    settings = read_settings()
    bucket = settings.required_bucket()
    entries = entries_of(settings, dataset, model, sites)
    watch = Stopwatch()
    run_id = new_run_id(watch)
    with workspace(settings.home) as work:
        ready = prepare(entries, run_id, work, bucket, watch)
        made = plan_placement_task(
            run_id, ready.batch, ready.cards, ready.chosen, ready.where, ready.profiles, ready.indexes, bound,
            bucket, confidence, None, ready.fallbacks, demands, ready.options, afresh=afresh,
        )  # fmt: skip
        publish_plan_task(made, bucket)
        if ready.measured:
            publish_profiles_task(ready.profiles)
    return made
