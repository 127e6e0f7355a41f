"""A picture of a plan: what each site takes by the rows of the programme, and below what no plan can be, as SVG text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from infra.placement._arrays import Arrays, evaluate
from infra.placement.programme import as_arrays
from infra.report.charts import WIDTH, nice, opening

if TYPE_CHECKING:
    from infra.placement import Problem, Solution

COLOURS = {"compute": "#2f6db5", "cores": "#9ec5e8", "uplink": "#4f8f8b", "downlink": "#c9a227"}
SECOND = "#d98032"
LEFT, LANE, TOP = 190, 40, 34
MOST = 60  # sites that are drawn: those that take longest


def seconds(problem: Problem, solution: Solution) -> str:
    """Bars of seconds: for every site one for each row, then the cloud's second part; a line where the bound lies, if it is known."""
    a = Arrays(problem)
    costs = evaluate(a, *as_arrays(a, solution.counts))
    order = sorted(range(len(a.names)), key=lambda i: -max(float(part[i]) for part in costs.parts.values()))[:MOST]
    end = max(costs.seconds, 1e-9)
    scale = (WIDTH - LEFT - 40) / end
    height = LANE * (len(order) + bool(costs.second)) + TOP + 26
    parts = [opening(height, "What each site is planned to take, in seconds, by what it comes from")]
    step, tick = nice(end / 8), 0.0
    while tick <= end:
        x = LEFT + tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="28" x2="{x:.1f}" y2="{height - 22}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" class="tick" text-anchor="middle">{tick:g} s</text>')
        tick += step
    for lane, i in enumerate(sorted(order)):
        y = LANE * lane + TOP
        parts.append(f'<text x="0" y="{y + 18}" class="site">{escape(a.names[i])}</text>')
        for row, (name, colour) in enumerate(COLOURS.items()):
            value = float(costs.parts[name][i])
            parts.append(_bar(LEFT, y + 8 * row, value * scale, colour, f"{a.names[i]}: {name}, {value:.3f} s"))
    if costs.second:
        y = LANE * len(order) + TOP
        parts.append(f'<text x="0" y="{y + 18}" class="site">escalations</text>')
        what = f"{a.names[a.first_cloud]} answers what the edges are unsure of, {costs.second:.3f} s"
        parts.append(_bar(LEFT + costs.first * scale, y, costs.second * scale, SECOND, what, 24))
    if problem.objective == "makespan" and solution.lower_bound > 0:
        x = LEFT + solution.lower_bound * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="28" x2="{x:.1f}" y2="{height - 22}" stroke="#b3402a" stroke-dasharray="4 3"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="24" class="tick" text-anchor="end">no plan is sooner than {solution.lower_bound:.3g} s</text>'
        )
    x = float(LEFT)
    for name, colour in COLOURS.items():
        parts.append(f'<rect x="{x - LEFT:.1f}" y="2" width="9" height="9" fill="{colour}"/>')
        parts.append(f'<text x="{x - LEFT + 13:.1f}" y="10" class="tick">{name}</text>')
        x += 80
    return "".join([*parts, "</svg>"])


def _bar(x: float, y: float, width: float, colour: str, title: str, height: float = 7) -> str:
    if width <= 0:
        return ""
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{max(1.0, width):.1f}" height="{height}" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )
