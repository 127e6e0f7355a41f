"""What a person sees in the terminal: progress on standard error, the report's figures on standard output."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_catalog.catalog import Catalog
from data_catalog.errors import CatalogError, StoreFull
from infra.demands import in_words, written
from infra.progress import Progress, listening
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.progress import TaskID

    from data_catalog.nouns import CompressionRecipe, Dataset, Model, Report, Site


@contextmanager
def quiet(log: Path) -> Iterator[IO[str]]:
    """Send what libraries write to standard error to a file: TensorFlow's C++ talks there, and past Python.

    Yields:
        The real standard error, for progress.

    Raises:
        StoreFull: the log cannot be written.
    """
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        raise StoreFull(f"{log} cannot be written ({error}); free some space or set CLOUDEDGE_HOME") from error
    sys.stderr.flush()
    real = os.dup(2)
    os.dup2(target, 2)
    os.close(target)
    try:
        with os.fdopen(os.dup(real), "w", buffering=1) as screen:
            yield screen
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)


@contextmanager
def progress(to: IO[str]) -> Iterator[Callable[[str], None]]:
    """Show what is going on: live bars on a terminal, else a line when a stage begins.

    Yields:
        A function that announces a step that has no count of its own.
    """
    console = Console(file=to)
    if not console.is_terminal:
        with _lines(to) as announce:
            yield announce
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[unit]}"), TimeElapsedColumn(),
    )  # fmt: skip
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[tuple[str, str], TaskID] = {}
        step: list[TaskID] = []

        def announce(text: str) -> None:
            for task in step:
                bars.remove_task(task)
            step[:] = [bars.add_task(text, total=None, unit="")]

        def show(event: Progress) -> None:
            if not event.total:
                if event.site == "coordinator":
                    announce(event.stage)
                return
            key = (event.stage, event.site)
            if key not in tasks:
                tasks[key] = bars.add_task(f"{event.stage} [bold]{event.site}", total=event.total, unit=event.unit)
            bars.update(tasks[key], completed=event.done, total=event.total)

        with listening(show):
            yield announce


@contextmanager
def _lines(to: IO[str]) -> Iterator[Callable[[str], None]]:
    """One line a stage, for logs."""
    said: set[str] = set()

    def announce(text: str) -> None:
        if text not in said:
            said.add(text)
            to.write(f"{text} ...\n")
            to.flush()

    with listening(lambda event: announce(event.stage)):
        yield announce


def show_report(report: Report, page: Path) -> None:
    """Print the report's table and totals; the last line is the status."""
    console = Console(highlight=False)
    sites = Table(title=f"{report.dataset} answered by {report.model}", title_justify="left", box=None, pad_edge=False)
    for name in ("site", "tier"):
        sites.add_column(name)
    for name in ("shards", "rows", "seconds", "predicted", "bytes in", "bytes out", "over its link"):
        sites.add_column(name, justify="right")
    for s in report.sites:
        sites.add_row(
            s.name, s.tier, f"{s.shards}", f"{s.rows:,}", f"{s.seconds:.2f}", f"{s.predicted_seconds:.2f}", f"{s.bytes_in:,}",
            f"{s.bytes_out:,}", f"{s.wan_bytes:,}",
        )  # fmt: skip
    console.print(sites)
    names = {card.digest: card.name for card in (*report.variants.values(), *report.other_variants)}
    for s in report.sites:
        usual = report.variants[s.tier]
        if (s.variant, s.runtime) != (usual.digest, usual.runtime):
            console.print(f"{s.name} answers with {names.get(s.variant, s.variant[:12])} on {s.runtime}")
    console.print()
    scores = Table(box=None, pad_edge=False)
    scores.add_column("accuracy")
    scores.add_column(f"on {report.scored_rows:,} rows", justify="right")
    scores.add_column("95 % interval")
    for tier, value in report.accuracy.items():
        interval = report.accuracy_interval[tier]
        if value is not None and interval:
            scores.add_row(tier.replace("_", "-"), f"{value:.2%}", f"{interval[0]:.2%} to {interval[1]:.2%}")
        else:
            scores.add_row(tier.replace("_", "-"), "not known", "")
    console.print(scores)
    console.print()
    missing, twice = report.missing_rows, report.duplicate_rows
    escalated = f"{report.escalated_rows:,} escalated ({report.predicted_escalated_rows:,} predicted)"
    console.print(
        f"rows      {report.rows_out:,} of {report.rows_in:,}, {missing} missing, {twice} duplicate, {escalated}"
    )
    for each in report.replanned:
        console.print(f"replanned {each.moved} shards moved, {each.duplicated} asked twice: {each.why}", soft_wrap=True)
    console.print(f"bound     {promise(report)}")
    if report.caps or report.accuracy_floor or report.objective != "makespan":
        console.print(f"plan      {planned(report)}", soft_wrap=True)
    for name, why in report.open_reasons.items():
        console.print(f"[yellow]open[/]      {name}: {escape(why)}", soft_wrap=True)
    for name, why in report.unseen_sources.items():
        console.print(f"[yellow]open[/]      source {name}: {escape(why)}", soft_wrap=True)
    if report.missing_rows or report.pending_rows:
        counts = f"{report.missing_rows:,} rows are missing, {report.pending_rows:,} wait for the cloud"
        console.print(
            f"[yellow]open[/]      {counts}; settle them: cloudedge reconcile {report.run_id}", soft_wrap=True
        )
    for s in report.sites:
        if s.drift and s.drift.flagged:
            console.print(f"[yellow]drift     {s.name}: {s.drift.reason}")
    if report.quarantined_rows:
        console.print(f"left out  {report.quarantined_rows:,} rows that do not fit the schema, in quarantine")
    if report.computed_results:
        console.print(f"results   {report.computed_results} computed, {report.reused_results} reused")
    else:
        console.print(f"results   nothing to compute: all {report.reused_results} reused from the ledger")
    console.print(
        f"bytes     {report.wan_bytes:,} over the links ({report.predicted_wan_bytes:,} predicted); raw {report.raw_bytes:,}"
    )
    for site in report.sites:
        if site.fallback:
            console.print(f"[yellow]fallback[/]  {site.name} {escape(site.fallback)}", soft_wrap=True)
    inferred = f"{report.actual_seconds:.2f} for inference ({report.predicted_seconds:.2f} predicted)"
    console.print(f"seconds   {report.total_seconds:.1f} in all, {inferred}")
    console.print(f"report    {page}", soft_wrap=True)
    console.print(f"status: {report.status}")


def planned(report: Report) -> str:
    """What was asked of the plan, and what it should cost."""
    asked = in_words(report.objective, report.caps, report.accuracy_floor)
    if not report.predicted_totals.get("makespan"):
        return f"{asked}; nothing was to be placed"
    costs = ", ".join(written(name, value) for name, value in report.predicted_totals.items())
    above = (
        "how near the best it is, is not known"
        if report.gap is None
        else f"{report.gap:.2%} above the least that is possible"
    )
    came = " for the plan as it came" if report.replanned else ""
    return f"{asked}: {costs} predicted{came}, {above}"


def promise(report: Report) -> str:
    """What is promised of the accuracy, in a sentence."""
    c = report.cascade
    if report.pending_rows:
        return f"not kept yet: {report.pending_rows:,} unsure rows with the edge's answer wait for the cloud"
    if report.held_rows:
        return f"not kept: the budget left {report.held_rows:,} unsure rows with the edge's answer"
    if c.confidence:
        return f"within {c.bound:.2%} of cloud-only with {c.confidence:.0%} confidence, from {c.validation_rows:,} rows"
    if not c.threshold and any(s.tier == "edge" for s in report.sites):
        return "none promised: every answer of an edge stands"
    return f"{c.bound:.2%}, with a margin; no promise"


def show_catalog(folders: Sequence[Path]) -> None:
    """Print the names that a run can use; a broken entry is shown with what is wrong."""
    entries = Catalog((*folders, *read_settings().catalog_folders))
    console = Console(highlight=False)
    load: dict[str, Callable[[str], CompressionRecipe | Dataset | Model | Site]] = {
        "datasets": entries.dataset, "models": entries.model, "recipes": entries.recipe, "sites": entries.site
    }  # fmt: skip
    broken: list[CatalogError] = []
    for kind, read in load.items():
        table = Table(title=kind, title_justify="left", box=None, pad_edge=False, show_header=False)
        for name in entries.names(kind):
            try:
                table.add_row(f"  {name}", read(name).description)
            except CatalogError as error:
                broken.append(error)
                table.add_row(f"  {name}", "[red]broken, see below")
        console.print(table)
    for other in broken[1:]:
        sys.stderr.write(f"cloudedge: {other}\n")
    if broken:
        raise broken[0]
