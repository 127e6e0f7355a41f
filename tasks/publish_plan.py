"""Show the plan on the run's page in Prefect: a table of the sites, and a picture of their seconds."""

from __future__ import annotations

import base64

from prefect import task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Plan
from infra import keys, plan_table, storage
from infra.problem import from_json
from infra.report import plan_chart


def publish_plan(plan: Plan, bucket: str, changes: int = 0) -> None:
    """The plan as a table and a picture on the run's page in Prefect.

    Args:
        plan: of the run.
        bucket: of the store, which has the problem that it solves.
        changes: how often it was changed while the run was under way. It is shown as it came, by what was measured before.
    """
    key = keys.problem(plan.run_id, changes)
    problem, solution = from_json(storage.open_store(bucket).get(key), key)
    rows = [
        {
            "site": line.site,
            "variant": f"{', '.join(line.variants)} on {plan.cards[line.site].runtime}",
            "shards": line.shards,
            "from elsewhere": line.guests,
            "reused": line.reused,
            "rows": line.rows,
            "predicted seconds": round(line.seconds, 3),
            "bytes over its link": round(line.bytes),
            "codec": ", ".join(line.codecs),
            "what binds": line.binds,
            "slack in seconds": None if line.slack is None else round(line.slack, 3),
            "why": plan.reasons.get(line.site, line.why),
        }
        for line in plan_table.lines(problem, solution, plan)
    ]
    lossy = [f"lossy coding changed values by at most {plan.lossy_error:.3g}"] if plan.lossy_error else []
    said = "; ".join([*plan_table.totals(problem, solution), *lossy])
    came = f" as it came, changed {changes} times, by what was measured before the run" if changes else ""
    create_table_artifact(rows, key="plan", description=f"Plan of {plan.run_id}{came}: {said}")
    svg = plan_chart.seconds(problem, solution).encode()
    url = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    create_image_artifact(
        image_url=url, key="plan-seconds", description=f"What each site is planned to take in {plan.run_id}{came}"
    )


publish_plan_task = task(name="publish plan", cache_policy=NO_CACHE)(publish_plan)
