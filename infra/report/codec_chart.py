"""A picture of codec trials: for each link, how long each step of a delivery takes with the best codecs."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from infra import codec_trials
from infra.report.charts import COLOURS, WIDTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import CodecTrial

SHOWN = 8  # codecs a link
GIGABYTE = 10**9
STEPS = {"compress": COLOURS["compress"], "transfer": COLOURS["escalate"], "decompress": COLOURS["infer"]}


def steps(trial: CodecTrial, link: float) -> dict[str, float]:
    """Seconds of each step for a gigabyte of shards on one core; they overlap.

    Args:
        trial: what was measured of the codec.
        link: bytes a second.
    """
    return {name: GIGABYTE * seconds for name, seconds in codec_trials.steps(trial, link).items()}


def deliveries(dataset: str, trials: Sequence[CodecTrial], links: Mapping[str, float]) -> str:
    """A panel for each link: the codecs that deliver soonest, and no compression, their three steps as bars.

    Args:
        dataset: whose shards they are, for the title.
        trials: one a codec.
        links: bytes a second, by name.

    Returns:
        A whole SVG file.
    """
    parts: list[str] = []
    y = 52
    for name, link in links.items():
        ranked = sorted(trials, key=lambda trial: codec_trials.seconds_a_byte(trial, link))
        shown = ranked[:SHOWN] + [trial for trial in ranked[SHOWN:] if trial.codec == "none"]
        most = max(max(steps(trial, link).values()) for trial in shown)
        parts.append(f'<text x="0" y="{y}" class="site">{escape(name)}</text>')
        y += 10
        for place, trial in enumerate(shown):
            seconds = steps(trial, link)
            parts.append(
                f'<text x="150" y="{y + 12}" class="{"tick" if place else "site"}" text-anchor="end">{escape(trial.codec)}</text>'
            )
            for lane, (step, colour) in enumerate(STEPS.items()):
                width = max(0.5, seconds[step] / most * (WIDTH - 260))
                parts.append(
                    f'<rect x="160" y="{y + 1 + 5 * lane}" width="{width:.1f}" height="4" fill="{colour}">'
                    f"<title>{escape(trial.codec)}: {step} {seconds[step]:.3g} s</title></rect>"
                )
            slowest = max(seconds.values())
            end = 166 + slowest / most * (WIDTH - 260)
            parts.append(f'<text x="{end:.1f}" y="{y + 12}" class="tick">{slowest:,.3g} s</text>')
            y += 20
        y += 26
    legend = "".join(
        f'<rect x="{160 + 110 * i}" y="24" width="12" height="8" fill="{colour}"/>'
        f'<text x="{178 + 110 * i}" y="32" class="tick">{step}</text>'
        for i, (step, colour) in enumerate(STEPS.items())
    )
    title = f"Seconds for a gigabyte of shards of {escape(dataset)} by codec and link; the three steps overlap"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 20}" role="img" class="chart">'
        "<style>.tick{font:11px system-ui,sans-serif;fill:#66615a}.site{font:600 12px system-ui,sans-serif;fill:#2b2926}</style>"
        f'<rect width="{WIDTH}" height="{y - 20}" fill="#fff"/><title>{title}</title>'
        f'<text x="0" y="14" class="site">{title}</text>{legend}{"".join(parts)}</svg>\n'
    )
