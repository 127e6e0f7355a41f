"""The report's page: one file that asks nobody for anything, and in which names are only text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from data_catalog.nouns import Cascade, Drift, Report, SiteReport, Span, VariantCard
from infra.report import charts, page

pytestmark = pytest.mark.unit

EVIL = "<script>alert('x')</script>&\"quoted\""


def report(**changes) -> Report:
    cascade = Cascade(
        threshold=0.7,
        temperature=1.2,
        bound=0.01,
        allowance=0.005,
        escalation=0.1,
        validation_rows=1000,
        validation_accuracy=0.97,
        validation_cloud_accuracy=0.98,
    )
    card = VariantCard(
        model="m",
        version="v",
        tier="edge",
        recipe=EVIL,
        runtime="litert",
        runtime_version="2",
        key="k",
        digest="d",
        bytes=10,
        classes=("a", "b"),
        shape=(4,),
        dtype="uint8",
        temperature=1,
        validation_rows=10,
        accuracy=0.9,
        accuracy_interval=(0.8, 1.0),
        class_accuracy=(1.0, 0.8),
        agreement=0.9,
        made_seconds=1,
    )
    site = SiteReport(
        name="edge-1",
        tier="edge",
        shards=1,
        rows=10,
        seconds=1,
        predicted_seconds=1,
        bytes_in=1,
        bytes_out=1,
        wan_bytes=1,
        computed_results=1,
        reused_results=0,
        reason=EVIL,
    )
    values = {
        "run_id": EVIL,
        "status": "complete",
        "dataset": "d",
        "model": "m",
        "model_version": EVIL,
        "started": 0.0,
        "rows_in": 10,
        "rows_out": 10,
        "missing_rows": 0,
        "duplicate_rows": 0,
        "escalated_rows": 1,
        "predicted_escalated_rows": 1,
        "scored_rows": 10,
        "accuracy": {"cascade": 0.9, "cloud_only": None, "edge_only": 0.8},
        "accuracy_interval": {"cascade": (0.8, 1.0), "cloud_only": None, "edge_only": (0.7, 0.9)},
        "cascade": cascade,
        "raw_bytes": 1000,
        "wan_bytes": 10,
        "predicted_wan_bytes": 11,
        "model_bytes": 5,
        "computed_results": 1,
        "reused_results": 0,
        "seconds": {EVIL: 1.0},
        "predicted_seconds": 1.0,
        "actual_seconds": 1.0,
        "total_seconds": 2.0,
        "sites": (site,),
        "spans": (Span(stage=EVIL, site=EVIL, start=0, end=1),),
        "variants": {"edge": card},
        "predictions": (EVIL,),
        "report_key": "r",
    }
    # a key that the report gained since, whose value matters to none of these tests
    for name, field in Report.model_fields.items():
        if field.is_required() and name not in values:
            values[name] = field.annotation()
    return Report.model_validate(values | changes)


class Outline(HTMLParser):
    """Tags with their attributes, and whether every tag that was opened was closed."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


GALLERY = [
    {
        "image": charts.picture(np.zeros((8, 8, 1), np.uint8)),
        "record_id": EVIL,
        "edge": EVIL,
        "cloud": EVIL,
        "label": EVIL,
        "confidence": 0.4,
    },
    {
        "image": charts.picture(np.zeros((8, 8, 3), np.uint8)),
        "record_id": "r",
        "edge": "a",
        "cloud": "b",
        "label": None,
        "confidence": 0.4,
    },
]


def test_the_page_asks_nobody_for_anything():
    html = page.render(report(), GALLERY)
    links = [
        value
        for _, attributes in outline(html).tags
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}
    ]
    assert len(links) == len(GALLERY)
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in outline(html).tags}
    assert not re.search(r"url\(|@import", html)
    assert set(re.findall(r"https?://[^\"' <]*", html)) <= {"http://www.w3.org/2000/svg"}


def test_names_are_only_text():
    html = page.render(report(), GALLERY)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8
    assert '&"quoted"' not in html


def test_what_is_not_known_is_not_shown():
    none = dict.fromkeys(["cascade", "cloud_only", "edge_only"])
    html = page.render(report(accuracy=none, accuracy_interval=none, scored_rows=0, spans=(), wan_bytes=0, rows_out=0))
    outline(html)
    assert "<h2>Accuracy</h2>" not in html
    assert "went over the links" in html


def test_numbers_are_those_of_the_report():
    html = page.render(report())
    for text in ("10</b>", "90.00%", "10.0%", "100.0x", "0.700", "97.00%"):
        assert text in html


def test_what_is_open_and_who_has_drifted_is_said():
    reason = "it is less sure of its answers than when it was calibrated; 40.0% of its rows are under the threshold"
    drift = Drift(
        rows=9, distance=0.4, distance_p=0.0, escalation=0.4, escalation_p=0.0, flagged=True, reason=reason
    )  # fmt: skip
    site = report().sites[0].model_copy(update={"drift": drift})
    html = page.render(
        report(
            status="partial", sites=(site,), missing_rows=7, pending_rows=3, missing_key="runs/r/missing.parquet",
            open_reasons={"edge-1": EVIL, "escalations": "the cloud is down"}, unseen_sources={"edge-9": EVIL},
        )
    )  # fmt: skip
    outline(html)
    assert f"edge-1 has drifted: {reason}" in html
    for text in (
        'class="wrong">partial',
        "7 rows are missing",
        "runs/r/missing.parquet",
        "the cloud is down",
        "source edge-9",
        "cloudedge reconcile",
    ):
        assert text in html
    assert "cloudedge reconcile" not in page.render(report())


@pytest.mark.parametrize("shape", [(8,), (8, 8), (8, 8, 2), (2, 8, 1)])
def test_a_record_that_is_no_picture_has_none(shape):
    assert charts.picture(np.zeros(shape, np.uint8)) is None
    assert charts.picture(np.zeros((8, 8, 1), np.float32)) is None
