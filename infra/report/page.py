"""Render a report as one self-contained HTML page: no script, no font, no request to anywhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from infra.demands import in_words, written
from infra.report import charts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import Report

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render(report: Report, gallery: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page.

    Args:
        report: all that is shown.
        gallery: escalated records: `image` (a `data:` URI), `record_id`, `edge`, `cloud`, `label`, `confidence`.
    """
    reduction, note = reduction_of(report)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        r=report,
        started=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.started)),
        reduction=reduction,
        reduction_note=note,
        timeline=Markup(charts.timeline(report.spans)),
        accuracies=Markup(charts.accuracies(report.accuracy, report.accuracy_interval)),
        bars=Markup(
            charts.bars(
                {
                    "sending all rows raw": report.raw_bytes,
                    "this run": report.wan_bytes,
                    "as predicted": report.predicted_wan_bytes,
                },
                "bytes",
            )
        ),
        gallery=gallery,
        asked=in_words(report.objective, report.caps, report.accuracy_floor),
        predicted=", ".join(written(name, value) for name, value in report.predicted_totals.items()),
    )


def reduction_of(report: Report) -> tuple[str, str]:
    """How much less went over the links than sending all rows raw, in figures and in words."""
    if not report.wan_bytes:
        return "nothing", f"went over the links; sending all rows raw is {report.raw_bytes:,} bytes"
    return (
        f"{report.raw_bytes / report.wan_bytes:.1f}x",
        f"less over the links than raw: {report.wan_bytes:,} of {report.raw_bytes:,} bytes",
    )
