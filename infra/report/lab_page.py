"""The laboratory's page: bars for each way of doing the job, and the timeline of each."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from infra.report.charts import timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import Report

WIDTH, BAR, LEFT, RIGHT = 860, 26, 130, 120
OURS, OTHER, BOUND = "#2f6db5", "#b9bec4", "#b3261e"
WORK = {"compress", "arrive", "fetch", "decompress", "infer", "commit", "escalate"}


def bars(trials: Sequence[dict[str, Any]]) -> str:
    """An SVG: seconds of each way, and the bound that no placement can beat as a line."""
    most = max(trial["seconds"] for trial in trials)
    scale = (WIDTH - LEFT - RIGHT) / most
    height = (BAR + 10) * len(trials) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        "<title>Seconds that the same job takes, by the way of placing it</title>",
    ]
    for row, trial in enumerate(trials):
        y = (BAR + 10) * row + 6
        ours = row == len(trials) - 1
        parts.append(f'<text x="0" y="{y + 18}">{escape(trial["name"])}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{trial["seconds"] * scale:.1f}" height="{BAR}" fill="{OURS if ours else OTHER}"/>'
        )
        said = f"{trial['seconds']:.1f} s, {trial['link_bytes'] / 1e6:.1f} MB"
        parts.append(f'<text x="{LEFT + trial["seconds"] * scale + 6:.1f}" y="{y + 18}">{said}</text>')
        if ours and trial["lower_bound_seconds"]:
            x = LEFT + trial["lower_bound_seconds"] * scale
            parts.append(
                f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 24}" stroke="{BOUND}" stroke-dasharray="4 3"/>'
            )
            parts.append(
                f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" fill="{BOUND}">no placement can be faster</text>'
            )
    return "\n".join([*parts, "</svg>"])


def render(result: dict[str, Any], reports: Sequence[Report]) -> str:
    """The page, which loads nothing from anywhere."""
    parts = [
        f"<h1>{result['rows']:,} rows over {len(result['sites']) - 1} edges and a cloud</h1>",
        bars(result["trials"]),
    ]
    for trial, report in zip(result["trials"], reports, strict=True):
        parts.append(f"<h2>{escape(trial['name'])}</h2>")
        parts.append(timeline([span for span in report.spans if span.stage in WORK and span.site != "coordinator"]))
    parts += [f"<p>{escape(what)}: {escape(how)}</p>" for what, how in result["emulation"].items()]
    style = "body{font-family:sans-serif;margin:2em auto;max-width:900px} .grid{stroke:#ddd} .tick{font-size:11px;fill:#666} .site{font-size:12px;font-weight:bold}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>laboratory</title><style>{style}</style>\n'
        + "\n".join(parts)
        + "</html>\n"
    )
