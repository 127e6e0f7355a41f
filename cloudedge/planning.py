"""What `cloudedge plan` does: shows a plan before it runs, says why it is so, and plans again with something changed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cloudedge.plan_command import demands_of
from cloudedge.running import call_flow, stack_for, with_catalog
from cloudedge.site_keys import opened
from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, UnknownName
from data_catalog.nouns import Plan
from infra import explain, keys, plan_table, problem
from infra.additions import added_site
from infra.demands import read_demands
from infra.solving import solve
from infra.storage import open_store, read_noun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from infra.placement import Problem, Solution
    from infra.storage import Store

WIDE = 200  # columns where nobody looks
SHOWN = 12  # digits of a digest
MANY = 40  # sites, above which those for which nothing changes are counted and not listed


@dataclass(frozen=True, slots=True)
class Changes:
    """What a plan is made again with."""

    what_if: Sequence[str]
    without: Sequence[str]
    add: Sequence[str]


def plan(
    dataset: str, model: str, sites: Sequence[str], bound: float, confidence: float, asked: Mapping[str, Any],
    catalog: Sequence[Path], *, afresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Plan a run and show it; no order is given.

    Raises:
        CloudEdgeError: what stopped it; nothing is started for bad input.
    """
    demands = demands_of(**asked)
    read_demands(**demands)
    found = with_catalog(catalog)
    entries = Catalog(found.catalog_folders)
    entries.dataset(entries.model(model, "--model").trained_on, f"model {model}, key `trained_on`")
    entries.sites(sites, entries.dataset(dataset, "--dataset"), "--site")
    with stack_for(found, _load_flow):
        from flows import plan as flow

        made = call_flow(flow.plan, dataset, model, tuple(sites), bound, confidence, **demands, afresh=afresh)
        solved = _read_problem(open_store(), made.run_id)
    if as_json:
        _print_json({"run_id": made.run_id, "plan": _as_data(*solved, made)})
    else:
        _show(made, *solved)


def _load_flow() -> None:
    import flows.plan  # noqa: F401


def replan(
    run_id: str, why: str, changes: Changes, asked: Mapping[str, Any], catalog: Sequence[Path], *, as_json: bool
) -> None:
    """Show a plan that was made, why it is so, and what it would be with the changes.

    Raises:
        BadInput: there is no such plan, or a change cannot be read.
        PlanError: with the changes no plan satisfies the constraints.
    """
    folders = with_catalog(catalog).catalog_folders
    with opened() as (store, _):
        made = _read_plan(store, run_id)
        before, was = _read_problem(store, made.run_id)
        after = _asked(before, asked)
        for site in changes.without:
            after = explain.without(after, site)
        for text in changes.add:
            after = explain.with_site(after, added_site(store, Catalog(folders), after, made, text))
        for text in changes.what_if:
            after = explain.change(after, text)
    changed = after != before
    solution, moved = solve_again(made, after) if changed else (was, 0)
    reasons = _why(made, after, solution, why) if why else []
    if as_json:
        again = {"replanned": _as_data(after, solution, None), "moved_shards": moved} if changed else {}
        _print_json({"run_id": made.run_id, "plan": _as_data(before, was, made), **again, "why": reasons})
        return
    if changed:
        show_both(made, (before, was), (after, solution), moved)
    elif not why:
        _show(made, before, was)
    for line in reasons:
        _console().print(line, soft_wrap=True)


def _read_plan(store: Store, run_id: str) -> Plan:
    """The plan of a run; of none: of what placed something last.

    Raises:
        BadInput: there is none.
    """
    if not run_id:
        if not store.exists(keys.latest_run()):
            raise BadInput("nothing was planned here yet; `cloudedge plan` plans, `cloudedge run` plans and runs")
        run_id = store.get(keys.latest_run()).decode()
    found = read_noun(store, keys.run(run_id, "plan.json"), Plan, "not a plan")
    if found is None:
        raise BadInput(f"--run {run_id!r} has no plan in the store; the reports in `runs` of the home name runs")
    return found


def _read_problem(store: Store, run_id: str) -> tuple[Problem, Solution]:
    key = keys.problem(run_id)
    if not store.exists(key):
        raise BadInput(f"run {run_id} was planned before plans kept their problem; plan again")
    return problem.from_json(store.get(key), key)


def _asked(before: Problem, asked: Mapping[str, Any]) -> Problem:
    """The problem with what is asked of it changed, as far as anything is given."""
    demands = read_demands(asked["objective"] or before.objective, asked["at_most"], asked["accuracy_at_least"] or 0.0)
    floor = before.accuracy if asked["accuracy_at_least"] is None else demands.accuracy
    return dataclasses.replace(
        before, objective=demands.objective, caps=before.caps | demands.caps, accuracy=floor
    )  # fmt: skip


def solve_again(made: Plan, after: Problem) -> tuple[Solution, int]:
    """What the plan would be for that problem, its shards being where it has them; and how many another site would answer.

    Raises:
        PlanError: no plan satisfies the constraints.
    """
    had = Counter((p.shard.origin, p.site) for p in made.placements if not p.reused)
    solution, before = solve(after, had=had), _sites(made)
    return solution, sum(before[digest] != site for digest, site in _assigned(made, solution).items())


def _sites(made: Plan) -> dict[str, str]:
    """By digest: the site of each shard that the plan placed."""
    return {p.shard.digest: p.site for p in made.placements if not p.reused}


def _assigned(made: Plan, solution: Solution) -> dict[str, str]:
    """The same with another solution: what need not move stays where the plan has it."""
    born = {origin for origin, _, _ in solution.counts}  # what a silent site keeps was not placed by the programme
    placed = [(p.shard.digest, p.shard.origin) for p in made.placements if not p.reused and p.shard.origin in born]
    return problem.assign_shards(placed, solution, _sites(made))


def _why(made: Plan, now: Problem, solution: Solution, target: str) -> list[str]:
    """Why a site, or a shard that the beginning of a digest names, is planned as it is.

    Raises:
        UnknownName: it is neither.
        BadInput: several shards begin so.
    """
    names = [site.name for site in now.sites]
    if target in names:
        return explain.why_site(now, solution, target)
    found = {p.shard.digest: p for p in made.placements if p.shard.digest.startswith(target)}
    if not found:
        raise UnknownName.among("site of this plan, and no shard's digest begins", target, names, "--why")
    if len(found) > 1:
        raise BadInput(f"--why {target!r} begins {len(found)} shards; give more digits")
    ((digest, placement),) = found.items()
    if placement.reused:
        return [f"shard {digest[:SHOWN]} is not placed: the ledger holds its result, of {placement.site}"]
    site = _assigned(made, solution).get(digest)
    if site is None:
        return [f"shard {digest[:SHOWN]} stays at {placement.site}, which was silent: nobody else has it"]
    head = f"shard {digest[:SHOWN]} of {placement.shard.origin}, {placement.shard.rows:,} rows, is answered at {site}"
    return [head, *explain.why_shard(now, solution, placement.shard.origin, site)]


# --- what is shown ------------------------------------------------------------------------------------------


def _show(made: Plan, solved: Problem, solution: Solution) -> None:
    console = _console()
    table = _table(f"plan of {made.dataset} answered by {made.model}", ("site", "variant", "codec", "what binds"),
                   ("shards", "from elsewhere", "reused", "rows", "seconds", "bytes over its link", "slack"))  # fmt: skip
    lines = plan_table.lines(solved, solution, made)
    for line in lines:
        table.add_row(
            line.site, ", ".join(line.variants), ", ".join(line.codecs), line.binds, f"{line.shards}", f"{line.guests}",
            f"{line.reused}", f"{line.rows:,}", f"{line.seconds:.3f}", f"{line.bytes:,.0f}", _seconds(line.slack),
        )  # fmt: skip
    console.print(table)
    console.print()
    for line in lines:
        console.print(f"{line.site} {made.reasons.get(line.site, line.why)}", soft_wrap=True)
    console.print()
    if not solution.counts:
        console.print("nothing to place: the ledger holds every result; --afresh plans as if it held none")
    for said in plan_table.totals(solved, solution) if solution.counts else ():
        console.print(said, soft_wrap=True)
    console.print(f"plan      {made.run_id}")


def show_both(made: Plan, before: tuple[Problem, Solution], after: tuple[Problem, Solution], moved: int) -> None:
    """Old against new, side by side, and how many shards another site would answer.

    Of many sites only those for which something changes are listed.
    """
    old, new = ({line.site: line for line in plan_table.lines(*each)} for each in (before, after))
    names = list(dict.fromkeys([*old, *new]))
    same = {name for name in names if _said(old.get(name)) == _said(new.get(name))} if len(names) > MANY else set()
    table = _table(
        f"plan {made.run_id}, before and after", ("site", "binds", "then"),
        ("shards", "then", "seconds", "then", "bytes over its link", "then"),
    )  # fmt: skip
    for name in names:
        if name not in same:
            pairs = zip(_said(old.get(name)), _said(new.get(name)), strict=True)
            table.add_row(name, *(each for pair in pairs for each in pair))
    console = _console()
    console.print(table)
    if same:
        console.print(f"for the other {len(same)} sites nothing changes")
    console.print()
    for when, each in (("before", before), ("after", after)):
        for said in plan_table.totals(*each):
            console.print(f"{when:7} {said}", soft_wrap=True)
    console.print(f"{moved} of {sum(before[1].counts.values())} shards would be answered elsewhere")


def _said(line: plan_table.SiteLine | None) -> tuple[str, str, str, str]:
    """What binds a site, its shards, seconds and bytes, as they are shown."""
    return (line.binds, f"{line.shards}", f"{line.seconds:.3f}", f"{line.bytes:,.0f}") if line else ("-",) * 4


def _as_data(solved: Problem, solution: Solution, made: Plan | None) -> dict[str, Any]:
    lines = [dataclasses.asdict(line) for line in plan_table.lines(solved, solution, made)]
    if made:
        lines = [line | {"why": made.reasons.get(line["site"], line["why"])} for line in lines]
    return {
        "objective": solved.objective, "caps": solved.caps, "accuracy_floor": solved.accuracy,
        "seconds": solution.seconds, "bytes": solution.bytes, "money": solution.money, "accuracy": solution.accuracy,
        "lower_bound": solution.lower_bound, "gap": solution.gap if solution.gap < float("inf") else None,
        "balance": solution.balance, "sites": lines,
    }  # fmt: skip


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")
