"""`cloudedge federate` and `cloudedge models restore`: training at the sites, and a site's backup of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloudedge import running
from cloudedge.site_keys import opened
from data_catalog.catalog import Catalog
from data_catalog.errors import ModelRefused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from data_catalog.federation import FederationReport


def federate(
    dataset: str,
    model: str,
    sites: Sequence[str],
    rounds: int,
    average: str,
    epochs: int,
    start: str,
    quorum: int,
    wait: float,
    catalog: Sequence[Path],
    *,
    as_json: bool,
) -> None:
    """Run the flow `federate` and show its report.

    Raises:
        CloudEdgeError: what stopped it; nothing is started for bad input.
        ModelRefused: the gate refused what the sites made; the report says so too.
    """
    from infra.averaging import AVERAGES

    found = running.with_catalog(catalog)
    entries = Catalog(found.catalog_folders)
    entries.dataset(entries.model(model, "--model").trained_on, f"model {model}, key `trained_on`")
    entries.sites(sites, entries.dataset(dataset, "--dataset"), "--site")
    AVERAGES.get(average, "--average")
    with running.stack_for(found, _load_flow):
        from flows.federate import federate as flow

        report = running.call_flow(
            flow, dataset, model, tuple(sites), rounds, average,
            epochs=epochs, start=start, quorum=quorum, wait_seconds=wait,
        )  # fmt: skip
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _show(report)
    if report.outcome == "refused":
        raise ModelRefused(f"{report.reason}; the report is {report.key}")


def _load_flow() -> None:
    import flows.federate  # noqa: F401


def _show(report: FederationReport) -> None:
    """A row a round, who was left out and why, and the verdict."""
    console = Console(highlight=False)
    plan = report.federation
    title = f"{plan.model} learnt where {plan.dataset} is born ({plan.average} of {', '.join(plan.sites)})"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("round", "sites", "rows", "loss", "right on held-out rows before it"):
        table.add_column(name, justify="right")
    for done in report.rounds:
        rows = sum(update.rows for update in done.updates)
        held_out = sum(update.held_out_rows for update in done.updates)
        right = sum(update.held_out_right for update in done.updates)
        loss = sum(update.loss * update.rows for update in done.updates) / rows
        table.add_row(
            f"{done.number}", f"{len(done.updates)}", f"{rows:,}", f"{loss:.3f}", f"{right / held_out:.2%}" if held_out else ""
        )  # fmt: skip
    console.print(table)
    console.print()
    for done in report.rounds:
        for site, reason in done.left_out.items():
            console.print(f"left out of round {done.number}: {site}, {reason}", soft_wrap=True)
    if report.card:
        low, high = report.card.accuracy_interval
        console.print(f"accuracy  {report.card.accuracy:.2%} as int8 ({low:.2%} to {high:.2%})")
    console.print(f"report    {report.key}", soft_wrap=True)
    reason = f": {report.reason}" if report.reason else ""
    console.print(f"status: {report.outcome}{reason}", soft_wrap=True)


def restore(site: str, model: str, number: int | None) -> None:
    """Write a site's backup to its folder and say where.

    Raises:
        UnknownName: there is none.
        CorruptObject, KeyMissing: it cannot be read here.
    """
    from infra import federation, local_training

    with opened() as (store, home):
        update = federation.backup(store, site, model, number)
        path = local_training.keep(home, site, model, federation.read_update(store, update, site, home))
    sys.stdout.write(
        f"{site} has what it learnt of {model} in round {update.round} of federation {update.federation_id} from"
        f" {update.rows:,} rows:\n  {path}\n"
    )
