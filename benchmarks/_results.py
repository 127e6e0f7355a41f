"""What the benchmarks share: the record of a run, the machine it ran on, and its place in `docs/benchmarks.md`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Every block below is written by the benchmark that it names. Times depend on the machine, so what counts are the
ratios, each taken within one run on the machine and the date that the block says; where a target was missed, the
block says so and why.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a metric: at least or at most."""

    bound: float
    at_least: bool = True

    def met(self, value: float | None) -> bool:
        """Whether a value keeps the bound; one that could not be measured does not."""
        return value is not None and (value >= self.bound if self.at_least else value <= self.bound)


def machine() -> dict[str, str | int]:
    """What the numbers depend on; neither the host's name nor a path."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit that was measured, with `-dirty` if the tree differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        ).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if git("status", "--porcelain") else "")


def write(
    name: str,
    metrics: Mapping[str, float | bool | None],
    targets: Mapping[str, Target],
    lines: Sequence[str],
    measured_commit: str,
) -> dict[str, object]:
    """Write `benchmarks/results/<name>.json` and the block of that name in the page.

    Args:
        name: of the benchmark.
        metrics: what was measured; None: could not be.
        targets: of those metrics that have one.
        lines: Markdown below the block's table: what was counted, what fell short and why.
        measured_commit: as `commit` said before the run wrote anything.
    """
    record: dict[str, object] = {
        "name": name,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": measured_commit,
        "metrics": {key: _recorded(value) for key, value in metrics.items()},
        "targets": {key: target.bound for key, target in targets.items()},
        "met": {key: target.met(metrics[key]) for key, target in targets.items()},
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    replace_block(PAGE, name, "\n".join([_heading(record), "", *table(metrics, targets), "", *lines]))
    return record


def _recorded(value: float | bool | None) -> float | bool | None:
    """A fact as it is, a number with six digits."""
    return value if value is None or isinstance(value, bool) else float(f"{value:.6g}")


def table(metrics: Mapping[str, float | bool | None], targets: Mapping[str, Target]) -> list[str]:
    """The metrics as Markdown, those with a target first."""
    rows = ["| metric | value | target | met |", "|---|---|---|---|"]
    for key in [*targets, *(key for key in metrics if key not in targets)]:
        value, target = metrics[key], targets.get(key)
        shown = _shown(value)
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}" if target else ""
        rows.append(f"| {key} | {shown} | {bound} | {('yes' if target.met(value) else '**no**') if target else ''} |")
    return rows


def _shown(value: float | bool | None) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _heading(record: dict[str, object]) -> str:
    m = machine()
    return f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['os']}; {record['date']}, commit {record['commit']}."


def replace_block(path: Path, name: str, text: str) -> None:
    """Put the text between a page's markers of that name; adds page and markers where they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = path.read_text() if path.exists() else INTRODUCTION
    if begin not in page or end not in page:
        page = f"{page.rstrip()}\n\n## {name.capitalize()}\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
