"""How a site gets its orders: called in this process, or asked through its mailbox. A stage a function; the same answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_catalog.nouns import Dataset, Noun, Placement, Profile, Receipt, Site, VariantCard
from data_catalog.orders import (
    Answered,
    Compressed,
    CompressOrder,
    DeliverOrder,
    Kind,
    Prepared,
    PrepareOrder,
    ProbeOrder,
)
from flows.fulfil import fulfil
from flows.probe import probe as probe_here
from infra import keys
from infra.ledger import Index, read_index
from infra.pipeline import as_far_as, side_by_side
from infra.progress import Stopwatch, publish
from infra.settings import read_settings
from infra.storage import open_store
from tasks.ask_site import ask_site_task
from tasks.compress_shards import compress_shards_task
from tasks.cut_shards import cut_shards_task
from tasks.preprocess_source import preprocess_source_task

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Ready:
    """A source that is cut into shards: its index, and where the batch lies if the origin is in this process."""

    index: Index
    spool: Path | None
    quarantined_rows: int
    wan_bytes: int = 0  # that crossed the origin's link for it


def as_far_as_heard(
    function: Callable[[Item], Done], items: Sequence[Item], site_of: Callable[[Item], Site | None], until: float | None
) -> tuple[dict[Item, Done], dict[Item, str]]:
    """Call the function on all items at once; what this process does is not cut short, what other sites do is, by `until`.

    Args:
        function: has a site do something.
        items: what it gets.
        site_of: whose an item is; None: of no site that takes part, whatever that does.
        until: epoch seconds, after which no other site is waited for; None: no limit.

    Returns:
        By item what it returned, and why there is no answer, in a line.

    Raises:
        Exception: as `as_far_as`; of this process, what the first failing item raised.
    """
    apart = [item for item in items if (site := site_of(item)) and site.dispatch != "embedded"]
    here = [item for item in items if item not in apart]

    def call(group: list[Item]) -> tuple[dict[Item, Done], dict[Item, str]]:
        done, late = as_far_as(function, group, until if group is apart else None)
        return dict(zip([item for item in group if item not in late], done, strict=True)), late

    (own, _), (others, late) = side_by_side(call, [here, apart])
    return own | others, late


def prepare(
    origin: Site | None,
    batch: Dataset,
    source: str,
    run_id: str,
    work: Path,
    bucket: str,
    watch: Stopwatch,
    again: int = 0,
) -> Ready:
    """Preprocess a source and cut it into shards, where it is born; `again` is of the try to settle a run."""
    name, threads = batch.source(source).site, origin.threads if origin else 1
    if origin is None or origin.dispatch == "embedded":
        with watch.stage("preprocess", name):
            done = preprocess_source_task(batch, source, work, bucket, threads)
        with watch.stage("partition", name):
            index = cut_shards_task(batch, source, done.fingerprint, done.spool, work, bucket, done.lossy_error)
        return Ready(index, done.spool, done.quarantined_rows)
    order = PrepareOrder(dataset=batch, source=source, threads=threads)
    with watch.stage("preprocess", name):
        answered = _ask(origin, "prepare", order, run_id, _named(f"prepare-{source}", again), bucket)
        prepared = Prepared.model_validate(answered.body)
        key = keys.shard_index(batch.name, source, prepared.fingerprint)
        index = read_index(open_store(bucket).get(key), key)
    publish("partition", name, len(index.shards), len(index.shards))
    return Ready(index, None, prepared.quarantined_rows, answered.wan_in + answered.wan_out)


def probe(site: Site, cards: tuple[VariantCard, ...], run_id: str, bucket: str) -> Profile:
    """Measure a site with these variants."""
    if site.dispatch == "embedded":
        return probe_here(site, cards)
    answered = _ask(site, "probe", ProbeOrder(site=site, cards=cards), run_id, f"probe-{site.name}", bucket)
    return Profile.model_validate(answered.body).model_copy(update={"site": site.name})  # it speaks for itself alone


def compress(
    origin: Site,
    batch: Dataset,
    source: str,
    placements: list[Placement],
    spool: Path | None,
    run_id: str,
    bucket: str,
    again: int = 0,
) -> Compressed:
    """Compress a source's shards at their origin and store them. `again` as of `prepare`."""
    if origin.dispatch == "embedded":
        return compress_shards_task(batch, source, placements, spool, origin.shards_on_premises, bucket, origin.threads)
    order = CompressOrder(
        dataset=batch, source=source, placements=tuple(placements), on_premises=origin.shards_on_premises,
        threads=origin.threads,
    )  # fmt: skip
    answered = _ask(origin, "compress", order, run_id, _named(f"compress-{source}", again), bucket)
    publish("compress", origin.name, len(placements), len(placements))
    crossed = answered.wan_in + answered.wan_out  # each byte is in one answer, this one or that of the letter beside it
    return Compressed.model_validate(answered.body).model_copy(update={"wan_bytes": crossed})


def answer(site: Site, order_key: str, run_id: str, bucket: str) -> Receipt:
    """Let a site do a work order; its receipt, with all that crossed the link for it."""
    if site.dispatch == "embedded":
        return fulfil(order_key)
    name = order_key.rpartition("/")[2].removesuffix(".json")
    publish("infer", site.name, 0, 0)
    answered = _ask(site, "answer", order_key, run_id, f"answer-{name}", bucket)
    receipt = Receipt.model_validate_json(open_store(bucket).get(keys.run(run_id, "receipts", f"{name}.json")))
    publish("infer", site.name, receipt.shards, receipt.shards)
    # shards may have been waited for, so how long fetching them took says nothing of the site's own link
    spans = tuple(
        span.model_copy(update={"stage": "arrive"}) if span.stage == "fetch" else span for span in receipt.spans
    )
    return receipt.model_copy(update={"wan_in": answered.wan_in, "wan_out": answered.wan_out, "spans": spans})


def deliver(site: Site, number: int, run_id: str, bucket: str) -> None:
    """Wait until a site with a mailbox has sent what its link kept back; `number` is of the try."""
    _ask(site, "deliver", DeliverOrder(), run_id, f"deliver-{site.name}-{number}", bucket)


def _named(name: str, again: int) -> str:
    return f"{name}.{again}" if again else name


def _ask(site: Site, kind: Kind, order: Noun | str, run_id: str, name: str, bucket: str) -> Answered:
    return ask_site_task(site, kind, order, run_id, name, read_settings().site_seconds, bucket)
