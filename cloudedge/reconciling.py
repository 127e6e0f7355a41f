"""`cloudedge reconcile`: settle what runs left open."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cloudedge import running
from data_catalog.errors import UnknownName
from infra import settings

if TYPE_CHECKING:
    from data_catalog.nouns import Report


def reconcile(run_id: str, *, as_json: bool) -> int:
    """Settle one run, or all that left something open, the oldest first, and show their reports.

    Returns:
        The exit code: `PARTIAL` if something stays open.

    Raises:
        UnknownName: the run left nothing open.
        CloudEdgeError: what stopped it.
    """
    found = settings.read_settings()
    settled: list[Report] = []
    with running.stack_for(found, _load_flow):
        from flows.reconcile import reconcile as settle
        from infra.settlement import unsettled_runs
        from infra.storage import open_store

        for name in [run_id] if run_id else unsettled_runs(open_store()):
            try:
                settled.append(running.call_flow(settle, name))
            except UnknownName:
                if run_id:
                    raise
                continue  # another process has settled it since it was listed
            running.keep(settled[-1], found.home)
    if as_json:
        sys.stdout.write("[" + ",\n".join(report.model_dump_json(indent=2) for report in settled) + "]\n")
    else:
        sys.stdout.writelines(f"{line(report)}\n" for report in settled)
        sys.stdout.write("" if settled else "nothing is left open\n")
    return running.PARTIAL if any(report.status == "partial" or report.pending_rows for report in settled) else 0


def _load_flow() -> None:
    import flows.reconcile  # noqa: F401


def line(report: Report) -> str:
    """What became of a run, in a line."""
    answered = f"{report.rows_out:,} of {report.rows_in:,} rows, {report.escalated_rows:,} by the cloud"
    if report.status == "complete" and not report.pending_rows:
        return f"{report.run_id}: settled: {answered}"
    reasons = "; ".join(
        f"{name}: {why}" for name, why in [*report.open_reasons.items(), *report.unseen_sources.items()]
    )
    return (
        f"{report.run_id}: still open: {answered}, {report.missing_rows:,} missing, {report.pending_rows:,} wait for the"
        f" cloud ({reasons})"
    )
