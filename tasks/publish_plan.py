"""Show the plan on the run's page in Prefect."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Plan


def publish_plan(plan: Plan) -> None:
    """The plan as a table on the run's page in Prefect."""
    rows = [
        {
            "site": name,
            "variant": f"{plan.cards[name].digest[:12]} on {plan.cards[name].runtime}",
            "shards": sum(p.site == name for p in plan.placements),
            "predicted seconds": round(plan.predicted_site_seconds.get(name, 0), 3),
            "why": why,
        }
        for name, why in plan.reasons.items()
    ]
    lossy = f"; lossy coding changed values by at most {plan.lossy_error:.3g}" if plan.lossy_error else ""
    create_table_artifact(
        rows, key="plan", description=f"Plan of {plan.run_id}: {plan.predicted_seconds:.2f} s predicted{lossy}"
    )


publish_plan_task = task(name="publish plan", cache_policy=NO_CACHE)(publish_plan)
