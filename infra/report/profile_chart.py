"""What is known of the sites, as tables and as a picture: speeds and links with whiskers."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from infra.report.charts import COLOURS, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import Profile, VariantSpeed

LEFT, LANE = 230, 20
LINKS: dict[str, tuple[str, float]] = {  # what it is called, and what its unit is in the profile's
    "up_bytes_per_second": ("up, Mbit/s", 1e6 / 8),
    "down_bytes_per_second": ("down, Mbit/s", 1e6 / 8),
    "latency_seconds": ("latency, ms", 1e-3),
    "dispatch_seconds": ("hand-over, ms", 1e-3),
}
SPEEDS: dict[str, tuple[str, float]] = {"rows_per_second": ("rows/s", 1.0), "startup_seconds": ("start-up, ms", 1e-3)}


def deviation(known: Profile | VariantSpeed, name: str) -> float | None:
    """Standard deviation of a quantity, as far as it was measured more than once."""
    spread = known.spreads.get(name)
    return math.sqrt(spread.variance) if spread and spread.variance else None


def site_rows(profiles: Sequence[Profile], now: float) -> list[dict[str, str]]:
    """A row a site: machine, link and hand-over, each with its standard deviation."""
    return [
        {
            "site": p.site,
            "machine": p.host,
            "cores": str(p.cores),
            "memory, GB": f"{p.memory_bytes / 1e9:.1f}",
            "free": f"{p.memory_free_bytes / 1e9:.1f}",
            "free disk, GB": f"{p.disk_free_bytes / 1e9:.1f}",
            **{title: _shown(p, name, unit) for name, (title, unit) in LINKS.items()},
            "measured": _ago(now - max([p.measured_at, *(spread.at for spread in p.spreads.values())])),
        }
        for p in profiles
    ]


def speed_rows(profiles: Sequence[Profile], now: float) -> list[dict[str, str]]:
    """A row for each site and variant: speed of one thread, and start-up."""
    return [
        {
            "site": p.site,
            "variant": digest[:12],
            "runtime": f"{speed.runtime} {p.runtime_versions.get(speed.runtime, '')}".strip(),
            "batch": str(speed.batch),
            **{title: _shown(speed, name, unit) for name, (title, unit) in SPEEDS.items()},
            "measurements": str(max((spread.count for spread in speed.spreads.values()), default=1)),
            "measured": _ago(now - max([p.measured_at, *(spread.at for spread in speed.spreads.values())])),
        }
        for p in profiles
        for digest, speed in sorted(p.variants.items())
    ]


def picture(profiles: Sequence[Profile]) -> str:
    """A panel for the speeds and one for each quantity of the link; a bar is the mean, a whisker one deviation each way.

    Returns:
        A whole SVG file.
    """
    title = "Speeds and links of the sites, as measured; whiskers: one standard deviation"
    parts: list[str] = []
    y = 46
    for name, (what, unit) in (SPEEDS | LINKS).items():
        if name == "startup_seconds":
            continue
        lanes: list[tuple[str, Profile | VariantSpeed]] = (
            [(f"{p.site} {digest[:12]}", speed) for p in profiles for digest, speed in sorted(p.variants.items())]
            if name in SPEEDS
            else [(p.site, p) for p in profiles]
        )
        parts.append(f'<text x="0" y="{y}" class="site">{escape(what)}</text>')
        y += 8
        most = max((float(getattr(of, name)) + (deviation(of, name) or 0.0) for _, of in lanes), default=0.0) or 1.0
        for label, of in lanes:
            parts += _lane(y, label, of, name, unit, most)
            y += LANE
        y += 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 20}" role="img" class="chart">'
        "<style>.tick{font:11px system-ui,sans-serif;fill:#66615a}.site{font:600 12px system-ui,sans-serif;fill:#2b2926}</style>"
        f'<rect width="{WIDTH}" height="{y - 20}" fill="#fff"/><title>{title}</title>'
        f'<text x="0" y="14" class="site">{title}</text>{"".join(parts)}</svg>\n'
    )


def _lane(y: int, label: str, of: Profile | VariantSpeed, name: str, unit: float, most: float) -> list[str]:
    def across(value: float) -> float:
        return LEFT + value / most * (WIDTH - LEFT - 150)

    mean, off, middle = float(getattr(of, name)), deviation(of, name) or 0.0, y + LANE / 2
    low, high = across(max(0.0, mean - off)), across(mean + off)
    parts = [
        f'<text x="{LEFT - 10}" y="{middle + 4}" class="tick" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LEFT}" y="{y + 4}" width="{max(1.0, across(mean) - LEFT):.1f}" height="{LANE - 8}"'
        f' fill="{COLOURS["infer"]}" fill-opacity="0.7"/>'
        f'<text x="{high + 8:.1f}" y="{middle + 4}" class="tick">{_shown(of, name, unit)}</text>'
    ]
    if off:
        parts.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 5}V{y + LANE - 5}M{high:.1f} {y + 5}V{y + LANE - 5}"'
            ' stroke="#2b2926" fill="none"/>'
        )
    return parts


def _shown(of: Profile | VariantSpeed, name: str, unit: float) -> str:
    mean, off = float(getattr(of, name)) / unit, deviation(of, name)
    digits = 0 if mean >= 100 else 1 if mean >= 10 else 2
    return f"{mean:,.{digits}f}" + ("" if off is None else f" ± {off / unit:,.{digits}f}")


def _ago(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{max(0.0, seconds):.0f} s ago"
