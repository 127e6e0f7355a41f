"""Write the report: `report.json`, `report.html`, and the same as artifacts on the Prefect run's page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Drift, Plan, Receipt, Replanned, Report, Site, SiteReport
from infra import cascade, coordination, drift, keys, shards, storage
from infra.progress import Stopwatch
from infra.report import charts, page


def write_report(
    plan: Plan,
    sites: Sequence[Site],
    receipts: Sequence[Receipt],
    totals: Any,
    sent: Sequence[tuple[str, int]],
    probe_bytes: int,
    watch: Stopwatch,
    flow_run: str,
    bucket: str,
    quarantined_rows: int = 0,
    replanned: Sequence[Replanned] = (),
    left_open: Mapping[str, str] | None = None,
    unseen: Mapping[str, str] | None = None,
) -> Report:
    """Build the report of a run and store it.

    Args:
        plan: what was predicted.
        sites: who took part.
        receipts: what they did.
        totals: what the aggregate counted (`tasks.aggregate_results.Totals`).
        sent: sites, and bytes of shards that left each when they were compressed.
        probe_bytes: what measuring new sites sent over their links.
        watch: the stages so far.
        flow_run: name of the Prefect flow run.
        bucket: of the store.
        quarantined_rows: records that were left out because they do not fit the schema.
        replanned: how the plan was changed while the run was under way.
        left_open: by site, or `escalations`: why an order did not end.
        unseen: by source: why it is not known what it holds now, and what was done about it.

    Raises:
        Conflict: another coordinator has taken over; there is no report.
    """
    report = build_report(
        plan, sites, receipts, totals, sent, probe_bytes, watch, flow_run, quarantined_rows, replanned
    )
    report = report.model_copy(
        update={"open_reasons": open_reasons(receipts, left_open or {}), **_unseen(totals, unseen or {})}
    )
    _store(storage.open_store(bucket), report, totals)
    return report


def write_settled_report(
    before: Report,
    plan: Plan,
    sites: Sequence[Site],
    receipts: Sequence[Receipt],
    totals: Any,
    sent: Sequence[tuple[str, int]],
    bucket: str,
    left_open: Mapping[str, str],
    unseen: Mapping[str, str],
) -> Report:
    """Report a run anew after what it had left open was done, and keep what was reported before.

    How long the run took, its timeline and its prediction stay.

    Args:
        before: what was reported last.
        plan: what was predicted.
        sites: who took part.
        receipts: all of the run's, then and now.
        totals: what the aggregate counted now.
        sent: sites, and bytes of shards that left each when they were compressed.
        bucket: of the store.
        left_open: by site, or `escalations`: why an order did not end this time either.
        unseen: as of `write_report`.

    Raises:
        Conflict: another coordinator has taken over; the report stays as it was.
    """
    store = storage.open_store(bucket)
    earlier = keys.run(plan.run_id, f"report-{len(before.earlier_reports) + 1}.json")
    lines = _site_lines(plan, sites, receipts, totals, sent)
    report = before.model_copy(
        update={
            **_counted(totals),
            **_unseen(totals, unseen),
            "sites": lines,
            "wan_bytes": sum(line.wan_bytes for line in lines),
            "computed_results": sum(receipt.computed_results for receipt in receipts),
            "reused_results": sum(receipt.reused_results for receipt in receipts),
            "open_reasons": open_reasons(receipts, left_open),
            "settled_at": time.time(),
            "earlier_reports": (*before.earlier_reports, earlier),
        }
    )
    coordination.put(store, plan.run_id, earlier, before.model_dump_json(indent=2).encode())
    _store(store, report, totals)
    return report


def _store(store: storage.Store, report: Report, totals: Any) -> None:
    html = page.render(report, _gallery(store, totals)).encode()
    coordination.put(store, report.run_id, keys.run(report.run_id, "report.html"), html)
    coordination.put(store, report.run_id, report.report_key, report.model_dump_json(indent=2).encode())


def open_reasons(receipts: Sequence[Receipt], left_open: Mapping[str, str]) -> dict[str, str]:
    """Why orders did not end, and which sites' rows did not arrive."""
    unsent = {receipt.site for receipt in receipts if any(not e.sent for e in receipt.escalated)}
    return dict.fromkeys(sorted(unsent), "rows that it escalates have not arrived in the store") | dict(left_open)


def _unseen(totals: Any, unseen: Mapping[str, str]) -> dict[str, Any]:
    """The keys of a report on sources of which it is not known what they hold now: rows of theirs may be missing."""
    return {"unseen_sources": dict(unseen), "status": "partial" if unseen or totals.missing else "complete"}


def build_report(
    plan: Plan,
    sites: Sequence[Site],
    receipts: Sequence[Receipt],
    totals: Any,
    sent: Sequence[tuple[str, int]],
    probe_bytes: int,
    watch: Stopwatch,
    flow_run: str,
    quarantined_rows: int = 0,
    replanned: Sequence[Replanned] = (),
) -> Report:
    """The report's numbers; pure. Arguments as in `write_report`."""
    lines = _site_lines(plan, sites, receipts, totals, sent)
    begun = [span.start for span in watch.spans if span.stage in {"infer", "escalate"}]
    ended = [span.end for span in watch.spans if span.stage in {"infer", "escalate"}]
    unsure = sum(
        plan.cascades[p.variant].escalation * p.shard.rows for p in plan.placements if p.variant in plan.cascades
    )
    usual = {card.digest for card in plan.variants.values()}
    others = {card.digest: card for card in plan.cards.values() if card.digest not in usual}
    return Report(
        run_id=plan.run_id,
        **_counted(totals),
        dataset=plan.dataset,
        model=plan.model,
        model_version=plan.version,
        started=watch.started,
        quarantined_rows=quarantined_rows,
        duplicate_rows=0,  # the aggregate has counted: with one twice there there is no report
        predicted_escalated_rows=round(unsure),
        cascade=plan.cascade,
        raw_bytes=sum(p.shard.raw_bytes for p in plan.placements),
        wan_bytes=sum(line.wan_bytes for line in lines),
        predicted_wan_bytes=plan.predicted_wan_bytes,
        probe_bytes=probe_bytes,
        model_bytes=plan.variants["edge"].bytes,
        computed_results=sum(receipt.computed_results for receipt in receipts),
        reused_results=sum(receipt.reused_results for receipt in receipts),
        seconds=watch.seconds(),
        predicted_seconds=plan.predicted_seconds,
        actual_seconds=max(ended, default=0.0) - min(begun, default=0.0),
        total_seconds=time.time() - watch.started,
        sites=lines,
        spans=(*watch.spans, *(span for receipt in receipts for span in receipt.spans)),
        variants=plan.variants,
        report_key=keys.run(plan.run_id, "report.json"),
        flow_run=flow_run,
        other_variants=tuple(others.values()),
        objective=plan.objective,
        caps=plan.caps,
        accuracy_floor=plan.accuracy_floor,
        predicted_totals=plan.totals,
        lower_bound=plan.lower_bound,
        gap=plan.gap,
        balance=plan.balance,
        access=plan.access,
        replanned=tuple(replanned),
    )


def _counted(totals: Any) -> dict[str, Any]:
    """The report's keys that say what became of the rows."""
    names = ("cascade", "cloud_only", "edge_only")
    known = {name: totals.known[name] == totals.scored > 0 for name in names}
    return {
        "status": "partial" if totals.missing else "complete",
        "rows_in": totals.rows_in,
        "rows_out": totals.rows_out,
        "missing_rows": totals.rows_in - totals.rows_out,
        "missing_key": totals.missing_key,
        "escalated_rows": totals.escalated,
        "held_rows": totals.held,
        "pending_rows": totals.pending,
        "scored_rows": totals.scored,
        "accuracy": {n: totals.right[n] / totals.scored if known[n] else None for n in names},
        "accuracy_interval": {
            n: cascade.wilson_interval(totals.right[n], totals.scored) if known[n] else None for n in names
        },
        "predictions": tuple(totals.files),
    }


def _site_lines(
    plan: Plan, sites: Sequence[Site], receipts: Sequence[Receipt], totals: Any, sent: Sequence[tuple[str, int]]
) -> tuple[SiteReport, ...]:
    drifts = {
        name: drift.compare(plan.cascades[plan.cards[name].digest], counts, len(totals.confidences))
        for name, counts in totals.confidences.items()
    }
    return tuple(
        _site_line(site, plan, receipts, sum(n for name, n in sent if name == site.name), drifts.get(site.name))
        for site in sites
    )


def _site_line(site: Site, plan: Plan, receipts: Sequence[Receipt], sent: int, drifted: Drift | None) -> SiteReport:
    mine = [receipt for receipt in receipts if receipt.site == site.name]
    crossed = sent + sum(receipt.wan_in + receipt.wan_out for receipt in mine) if site.tier == "edge" else 0
    return SiteReport(
        name=site.name,
        tier=site.tier,
        shards=sum(receipt.shards for receipt in mine),
        rows=sum(receipt.rows for receipt in mine),
        seconds=sum(receipt.finished - receipt.started for receipt in mine),
        predicted_seconds=plan.predicted_site_seconds.get(site.name, 0.0),
        bytes_in=sum(receipt.bytes_in for receipt in mine),
        bytes_out=sum(receipt.bytes_out for receipt in mine),
        wan_bytes=crossed,
        computed_results=sum(receipt.computed_results for receipt in mine),
        reused_results=sum(receipt.reused_results for receipt in mine),
        reason=plan.reasons.get(site.name, ""),
        variant=plan.cards[site.name].digest,
        runtime=plan.cards[site.name].runtime,
        fallback=next((receipt.fallback for receipt in mine if receipt.fallback), plan.fallbacks.get(site.name, "")),
        threshold=plan.cascades[plan.cards[site.name].digest].threshold if site.tier == "edge" else None,
        drift=drifted,
    )


def _gallery(store: storage.Store, totals: Any) -> list[dict[str, Any]]:
    """The escalated records that look like pictures, with what both tiers said; of restricted data, none."""
    found, opened = [], {}
    for shown in totals.shown:
        e = shown.escalation
        if keys.is_encrypted(e.key):  # the page would show to all what only some may read
            continue
        if e.key not in opened:
            ids, x = shards.decode(shards.unpack(store.get(e.key), e.codec, e.bytes, e.digest, e.key))
            opened[e.key] = (ids.to_pylist(), x)
        names, x = opened[e.key]
        image = charts.picture(x[names.index(shown.record_id)])
        if image:
            found.append(
                {"image": image, "record_id": shown.record_id, "edge": shown.edge, "cloud": shown.cloud,
                 "label": shown.label, "confidence": shown.confidence}
            )  # fmt: skip
    return found


write_settled_report_task = task(name="report anew", cache_policy=NO_CACHE)(write_settled_report)
write_report_task = task(name="report", cache_policy=NO_CACHE)(write_report)
