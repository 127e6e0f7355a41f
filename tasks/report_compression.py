"""Sum up a search among recipes: which variant to take, a report in the store, a table in Prefect."""

from __future__ import annotations

import time

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import AccessDecision, Budget, CompressionJob, CompressionReport, Trial
from infra import keys, storage


def report_compression(
    job: CompressionJob,
    trials: tuple[Trial, ...],
    budget: Budget,
    started: float,
    access: tuple[AccessDecision, ...] = (),
) -> CompressionReport:
    """The report, which is in the store too.

    Recommended is, of the published variants inside the budget, the one with the fewest bytes to send; of equal ones
    the more accurate.
    """
    fitting = [trial.card for trial in trials if trial.status == "published" and trial.inside_budget and trial.card]
    best = min(fitting, key=lambda card: (card.stored_bytes, -card.accuracy), default=None)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(started))
    report = CompressionReport(
        model=job.model,
        version=job.version,
        dataset=job.dataset.name,
        original=job.original,
        gate=job.gate,
        budget=budget,
        trials=trials,
        recommended=best.name if best else "",
        started=started,
        seconds=time.time() - started,
        report_key=keys.compression(job.model, job.version, "searches", stamp),
        access=access,
    )
    storage.open_store(job.bucket).put(report.report_key, report.model_dump_json(indent=2).encode())
    create_table_artifact(
        [row(trial, report) for trial in trials],
        key="compression",
        description=f"{job.model} {job.version}, {job.original.bytes:,} bytes, {job.original.accuracy:.2%} right;"
        f" recommended: {report.recommended or 'nothing inside the budget'}",
    )
    return report


def row(trial: Trial, report: CompressionReport) -> dict[str, str]:
    """A trial as a row of the table."""
    card = trial.card
    name = card.name if card else trial.recipe
    return {
        "variant": f"{name} (recommended)" if name == report.recommended else name,
        "status": trial.status,
        "bytes to send": f"{card.stored_bytes:,}" if card else "",
        "accuracy": f"{card.accuracy:.2%}" if card else "",
        "drop": f"{report.original.accuracy - card.accuracy:.2%}" if card else "",
        "agreement": f"{card.agreement:.2%}" if card else "",
        "ms a row": f"{card.latency_seconds * 1000:.3f}" if card and card.latency_seconds else "",
        "rows a second": f"{card.rows_per_second:,.0f}" if card and card.rows_per_second else "",
        "why": trial.reason,
    }


report_compression_task = task(name="report compression", cache_policy=NO_CACHE)(report_compression)
