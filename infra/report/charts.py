"""Pictures for the report, as SVG text: a timeline, accuracies with intervals, bytes, and escalated records."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import Span

WIDTH = 860
COLOURS = {
    "preprocess": "#7b8fb8", "partition": "#5f7f6d", "train": "#8a6fb0", "probe": "#9aa0a6", "plan": "#c9a227",
    "compress": "#4f8f8b", "fetch": "#9ec5e8", "arrive": "#9ec5e8", "decompress": "#6aa5d8", "infer": "#2f6db5", "commit": "#17406d",
    "escalate": "#d98032", "aggregate": "#6d8f3f", "report": "#9aa0a6", "start": "#b9bec4",
}  # fmt: skip
OTHER = "#b0a59a"


def timeline(spans: Sequence[Span]) -> str:
    """Bars of work by site over seconds; one lane for each stage that a site had.

    Training is left out: it takes a hundred times as long as all the rest, and happens once.
    """
    spans = [span for span in spans if span.stage != "train"]
    start = min((span.start for span in spans), default=0.0)
    lanes = list(
        dict.fromkeys(
            (span.site, span.stage) for span in sorted(spans, key=lambda s: (s.site != "coordinator", s.site, s.start))
        )
    )
    end = max((span.end for span in spans), default=start + 1)
    scale = (WIDTH - 200) / max(end - start, 1e-3)
    height = 18 * len(lanes) + 34
    parts = [opening(height, "What ran where and when, in seconds")]
    step = nice((end - start) / 8)
    tick = 0.0
    while tick <= end - start:
        x = 190 + tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 22}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" class="tick" text-anchor="middle">{tick:g} s</text>')
        tick += step
    last = ""
    for row, (site, stage) in enumerate(lanes):
        y = 18 * row + 4
        if site != last:
            parts.append(f'<text x="0" y="{y + 11}" class="site">{escape(site)}</text>')
            last = site
        parts.append(f'<text x="182" y="{y + 11}" class="tick" text-anchor="end">{escape(stage)}</text>')
        for span in spans:
            if (span.site, span.stage) == (site, stage):
                x, width = 190 + (span.start - start) * scale, max(1.5, (span.end - span.start) * scale)
                colour = COLOURS.get(stage.split()[0], OTHER)
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="13" rx="2" fill="{colour}">'
                    f"<title>{escape(site)}: {escape(stage)}, {span.end - span.start:.3f} s</title></rect>"
                )
    return "".join([*parts, "</svg>"])


def accuracies(values: Mapping[Any, float | None], intervals: Mapping[Any, tuple[float, float] | None]) -> str:
    """Accuracies as points with their 95 % intervals, on one axis."""
    known = {name: (value, intervals[name] or (value, value)) for name, value in values.items() if value is not None}
    if not known:
        return ""
    low = min(interval[0] for _, interval in known.values())
    high = max(interval[1] for _, interval in known.values())
    low, high = max(0.0, low - 0.1 * (high - low)), min(1.0, high + 0.1 * (high - low))
    height = 30 * len(known) + 30
    parts = [opening(height, "Accuracy with 95 % intervals")]

    def at(value: float) -> float:
        return 130 + (value - low) / max(high - low, 1e-9) * (WIDTH - 240)

    for tick in np.linspace(low, high, 5):
        parts.append(f'<line x1="{at(tick):.1f}" y1="0" x2="{at(tick):.1f}" y2="{height - 22}" class="grid"/>')
        parts.append(f'<text x="{at(tick):.1f}" y="{height - 8}" class="tick" text-anchor="middle">{tick:.1%}</text>')
    for row, (name, (value, interval)) in enumerate(known.items()):
        y = 30 * row + 16
        strong = name == "cascade"
        colour = "#d98032" if strong else "#2f6db5"
        parts.append(f'<text x="0" y="{y + 4}" class="site">{escape(name.replace("_", "-"))}</text>')
        parts.append(
            f'<line x1="{at(interval[0]):.1f}" y1="{y}" x2="{at(interval[1]):.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="6" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - 4}" y="{y + 4}" class="tick" text-anchor="end">{value:.2%}</text>')
    return "".join([*parts, "</svg>"])


def bars(values: Mapping[str, float], unit: str) -> str:
    """Horizontal bars, longest first as given, each with its number."""
    most = max([*values.values(), 1e-9])
    height = 26 * len(values) + 6
    parts = [opening(height, "Bytes over the links")]
    for row, (name, value) in enumerate(values.items()):
        y, width = 26 * row + 3, max(1.0, value / most * (WIDTH - 340))
        parts.append(f'<text x="0" y="{y + 14}" class="site">{escape(name)}</text>')
        parts.append(
            f'<rect x="190" y="{y}" width="{width:.1f}" height="19" rx="2" fill="{"#d98032" if row else "#b0a59a"}"/>'
        )
        parts.append(f'<text x="{196 + width:.1f}" y="{y + 14}" class="tick">{value:,.0f} {unit}</text>')
    return "".join([*parts, "</svg>"])


def picture(x: NDArray[np.generic]) -> str | None:
    """A record as a `data:` URI if it looks like an image (height, width, 1 or 3 channels of uint8), else None."""
    if x.ndim != 3 or x.shape[2] not in {1, 3} or x.dtype != np.uint8 or min(x.shape[:2]) < 4:
        return None
    image = Image.fromarray(np.squeeze(np.asarray(x), axis=2) if x.shape[2] == 1 else np.asarray(x))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def opening(height: int, title: str) -> str:
    """The beginning of a picture, with its styles."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" class="chart">'
        "<style>.grid{stroke:#e3e0da}.tick{font:11px system-ui,sans-serif;fill:#66615a}"
        ".site{font:600 12px system-ui,sans-serif;fill:#2b2926}</style>"
        f"<title>{escape(title)}</title>"
    )


def nice(step: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** np.floor(np.log10(max(step, 1e-6)))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step))
