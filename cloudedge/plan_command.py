"""`cloudedge plan`, and the options that it shares with `run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")


def with_demands(command: Command) -> Command:
    """The options that say what a plan makes least, and what it has to keep."""
    for option in (
        click.option(
            "--accuracy-at-least", type=click.FloatRange(0, 1), help="Least expected accuracy, by rows: 0.97 is 97 %."
        ),
        click.option(
            "--at-most", multiple=True, metavar="AMOUNT",
            help="Cap: seconds (30s), bytes over the links (5MB) or money ('2.5 money'); repeat it.",
        ),
        click.option(
            "--objective", type=click.Choice(["makespan", "bytes", "money"]),
            help="What the plan makes least.  [default: makespan]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def demands_of(objective: str | None, at_most: tuple[str, ...], accuracy_at_least: float | None) -> dict[str, Any]:
    """What these options say, as a flow takes it."""
    return {
        "objective": objective or "makespan", "at_most": tuple(at_most), "accuracy_at_least": accuracy_at_least or 0.0
    }  # fmt: skip


@click.command()
@click.option("--dataset", default="mnist-5k", show_default=True, help="A dataset of the catalog.")
@click.option("--model", default="digits", show_default=True, help="A model of the catalog.")
@click.option(
    "--site", "sites", multiple=True, help="A site that takes part; repeat it.  [default: where the data is born, and cloud]"
)  # fmt: skip
@click.option(
    "--bound", default=0.005, show_default=True, type=click.FloatRange(0, 1),
    help="How far below cloud-only the accuracy may lie: 0.005 is half a point.",
)  # fmt: skip
@click.option(
    "--confidence", default=0.95, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="With which the bound is to hold; 0: a margin instead of a promise.",
)  # fmt: skip
@with_demands
@click.option("--afresh", is_flag=True, help="Plan as if the ledger held nothing.")
@click.option(
    "--why", default="", metavar="SHARD|SITE", help="Say what binds it, and what the runner-up would have cost."
)
@click.option(
    "--what-if", multiple=True, metavar="CHANGE", help="Plan again with 'uplink of ward-3 = 5 Mbit/s'; repeat it."
)
@click.option("--without", multiple=True, metavar="SITE", help="Plan again without a site; repeat it.")
@click.option(
    "--add", multiple=True, metavar="SITE",
    help="Plan again with a site more: of the catalog, a FILE.yaml, or 'new-1 like edge-1'; repeat it.",
)  # fmt: skip
@click.option("--run", "run_id", default="", metavar="ID", help="Look at the plan of this run.  [default: the last]")
@click.option(
    "--catalog", type=click.Path(path_type=Path), multiple=True,
    help="A folder with datasets/, models/ and sites/; repeat it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
def plan(
    dataset: str, model: str, sites: tuple[str, ...], bound: float, confidence: float, objective: str | None,
    at_most: tuple[str, ...], accuracy_at_least: float | None, afresh: bool, why: str, what_if: tuple[str, ...],
    without: tuple[str, ...], add: tuple[str, ...], run_id: str, catalog: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Show the plan of a run before it runs, why it is so, and what it would be if.

    With --why, --what-if, --without, --add or --run it looks at the last plan, or that of the run, and prepares
    nothing; --objective, --at-most and --accuracy-at-least then change what is asked of it.
    """
    from cloudedge import planning

    asked = {"objective": objective, "at_most": at_most, "accuracy_at_least": accuracy_at_least}
    if why or what_if or without or add or run_id:
        planning.replan(run_id, why, planning.Changes(what_if, without, add), asked, catalog, as_json=as_json)
    else:
        planning.plan(dataset, model, sites, bound, confidence, asked, catalog, afresh=afresh, as_json=as_json)
