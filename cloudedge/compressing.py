"""`cloudedge models compress`: a search among recipes, its table, and what to do next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cloudedge import running
from data_catalog.catalog import Catalog
from infra.originals import is_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from data_catalog.nouns import CompressionReport

WIDE = 200  # columns where nobody looks


def compress(model: str, parameters: Mapping[str, Any], catalog: Sequence[Path], *, as_json: bool) -> None:
    """Run the flow `compress_model` and show its report.

    Args:
        model: a name of the catalog, or where a model lies.
        parameters: the flow's others.
        catalog: folders to look in first.
        as_json: print the report as JSON.

    Raises:
        CloudEdgeError: what stopped it; nothing is started for bad input.
    """
    found = running.with_catalog(catalog)
    entries = Catalog(found.catalog_folders)
    for recipe in parameters["recipes"]:
        entries.recipe(recipe, "--recipe")
    if parameters["dataset"]:
        entries.dataset(parameters["dataset"], "--dataset")
    if not is_file(model):
        entries.model(model, "MODEL")
    with running.stack_for(found, _load_flow):
        from flows.compress_model import compress_model

        report = running.call_flow(compress_model, model, **parameters)
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _show(report)


def _load_flow() -> None:
    import flows.compress_model  # noqa: F401


def _show(report: CompressionReport) -> None:
    from tasks.report_compression import row

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    original = report.original
    table = Table(
        title=f"{report.model} {report.version}: {original.bytes:,} bytes, {original.accuracy:.2%} right on"
        f" {original.validation_rows:,} validation rows",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    rows = [row(trial, report) for trial in report.trials]
    for name in rows[0]:
        table.add_column(name, justify="left" if name in {"variant", "status", "why"} else "right")
    for cells in rows:
        table.add_row(*cells.values())
    console.print(table)
    if report.recommended:
        console.print(f"recommended: {report.recommended}; `cloudedge models push {report.model} {report.recommended}`")
    else:
        console.print("recommended: none, for nothing that passed the gate lies inside the budget")
    console.print(f"report: {report.report_key} in the store", soft_wrap=True)
