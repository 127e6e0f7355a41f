"""A picture of a version's variants: bytes against accuracy against speed, the Pareto front marked."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from infra.report.charts import COLOURS, OTHER, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import VariantCard

HEIGHT = 420
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 50
SMALLEST, LARGEST = 5.0, 16.0  # radius of a dot, by the root of its rows a second


def sent_bytes(card: VariantCard) -> int:
    """What a site fetches of it."""
    return card.stored_bytes or card.bytes


def front(cards: Sequence[VariantCard]) -> set[str]:
    """Names of the variants that no other beats: smaller, more accurate or faster, and in nothing worse."""

    def figures(card: VariantCard) -> tuple[float, float, float]:
        return (-sent_bytes(card), card.accuracy, card.rows_per_second or 0.0)

    def beaten(card: VariantCard) -> bool:
        mine = figures(card)
        return any(
            all(theirs >= own for theirs, own in zip(figures(other), mine, strict=True)) and figures(other) != mine
            for other in cards
        )

    return {card.name for card in cards if not beaten(card)}


def variants(title: str, cards: Sequence[VariantCard]) -> str:
    """Each variant as a dot: bytes (logarithmic) to the right, accuracy with its 95 % interval upwards, speed as size.

    Args:
        title: of the picture.
        cards: at least one.

    Returns:
        A whole SVG file.
    """
    best = front(cards)
    sizes = [math.log10(sent_bytes(card)) for card in cards]
    low, high = min(sizes) - 0.1, max(sizes) + 0.1
    worst = min(card.accuracy_interval[0] for card in cards)
    top = max(card.accuracy_interval[1] for card in cards)
    span = max(top - worst, 1e-3)
    fastest = max((card.rows_per_second or 0.0 for card in cards), default=0.0)

    def across(size: float) -> float:
        return LEFT + (size - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(share: float) -> float:
        return HEIGHT - BOTTOM - (share - worst) / span * (HEIGHT - TOP - BOTTOM)

    parts = []
    for step in range(5):
        size, share = low + (high - low) * step / 4, worst + span * step / 4
        parts.append(
            f'<text x="{across(size):.1f}" y="{HEIGHT - BOTTOM + 18}" class="tick" text-anchor="middle">{10**size:,.0f}</text>'
            f'<text x="{LEFT - 8}" y="{up(share) + 4:.1f}" class="tick" text-anchor="end">{share:.2%}</text>'
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(share):.1f}" y2="{up(share):.1f}" stroke="#eee9df"/>'
        )
    line = sorted((card for card in cards if card.name in best), key=sent_bytes)
    points = " ".join(f"{across(math.log10(sent_bytes(c))):.1f},{up(c.accuracy):.1f}" for c in line)
    parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS["infer"]}" stroke-dasharray="4 4"/>')
    for card in cards:
        x, y = across(math.log10(sent_bytes(card))), up(card.accuracy)
        speed = card.rows_per_second or 0.0
        radius = SMALLEST + (LARGEST - SMALLEST) * math.sqrt(speed / fastest) if fastest else SMALLEST
        colour = COLOURS["infer"] if card.name in best else OTHER
        ends = [up(share) for share in card.accuracy_interval]
        said = f"{speed:,.0f} rows/s" if speed else "speed not measured"
        about = f"{card.name}: {sent_bytes(card):,} bytes, {card.accuracy:.2%}, {said}"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{colour}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.75">'
            f"<title>{escape(about)}</title></circle>"
            f'<text x="{x + radius + 5:.1f}" y="{y + 4:.1f}" class="{"site" if card.name in best else "tick"}">'
            f"{escape(card.name)}</text>"
        )
    legend = (
        "bytes as sent (logarithmic); accuracy with its 95 % interval; the larger, the faster; dashed: Pareto front"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">'
        "<style>.tick{font:11px system-ui,sans-serif;fill:#66615a}.site{font:600 12px system-ui,sans-serif;fill:#2b2926}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><title>{escape(title)}</title>'
        f'<text x="0" y="14" class="site">{escape(title)}</text><text x="0" y="32" class="tick">{legend}</text>'
        f"{''.join(parts)}</svg>\n"
    )
