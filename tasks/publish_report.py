"""Show the report's figures and its timeline on the run's page in Prefect."""

from __future__ import annotations

import base64

from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Report
from infra.report import charts


def publish_report(report: Report) -> None:
    """The report's figures and its timeline on the run's page in Prefect."""
    lines = [
        f"# {report.dataset} answered by {report.model}: {report.status}", "",
        f"{report.rows_out:,} of {report.rows_in:,} rows, {report.escalated_rows} escalated; "
        f"{report.computed_results} results computed, {report.reused_results} reused.", "",
        *(f"Open: {name}: {why}.\n" for name, why in report.open_reasons.items()),
        *(f"Open: source {name}: {why}.\n" for name, why in report.unseen_sources.items()),
        *([f"{report.missing_rows:,} rows are missing, {report.pending_rows:,} wait for the cloud.", ""] if report.missing_rows or report.pending_rows else []),
        "| accuracy | value | 95 % interval |", "|---|---|---|",
    ]  # fmt: skip
    for name, value in report.accuracy.items():
        interval = report.accuracy_interval[name]
        lines.append(
            f"| {name} | {value:.2%} | {interval[0]:.2%} to {interval[1]:.2%} |"
            if value is not None and interval
            else f"| {name} | not known | |"
        )
    lines += [
        "",
        "| site | tier | variant | shards | rows | seconds | predicted | bytes over its link |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.name} | {s.tier} | {s.variant[:12]} on {s.runtime} | {s.shards} | {s.rows} | {s.seconds:.2f} | {s.predicted_seconds:.2f} | {s.wan_bytes:,} |"
        for s in report.sites
    ]
    lines += [f"\n{s.name} {s.fallback}" for s in report.sites if s.fallback]
    lines += ["", f"Over the links: {report.wan_bytes:,} bytes; sending all rows raw: {report.raw_bytes:,}."]
    create_markdown_artifact("\n".join(lines), key="report", description=f"Report of {report.run_id}")
    svg = charts.timeline(report.spans).encode()
    url = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    create_image_artifact(image_url=url, key="timeline", description=f"What ran where in {report.run_id}")


publish_report_task = task(name="publish report", cache_policy=NO_CACHE)(publish_report)
