"""Compress a source's shards at their origin, by the codec that the plan chose for their link, and store them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import CorruptObject
from data_catalog.nouns import Dataset, Placement
from infra import pipeline, shards, storage
from infra.codecs import CODECS
from infra.progress import publish
from infra.spool import Spool


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that a source's origin put into the store, and those of them that crossed its link."""

    bytes: int
    wan_bytes: int


def compress_shards(
    dataset: Dataset,
    source_name: str,
    placements: list[Placement],
    spool: Path | None,
    on_premises: bool,
    bucket: str,
    threads: int = 1,
) -> Stored:
    """Put every shard that the store lacks; encoding, compression and transfer overlap.

    Args:
        dataset: the catalog entry.
        source_name: which of its sources.
        placements: those of the source's shards; they name key and codec.
        spool: the preprocessed batch; None if nothing has changed since the last run.
        on_premises: whether the origin's shards stay in a store of its own, so that only those planned for
            another site cross its link.
        bucket: of the store.
        threads: shards that are compressed side by side.

    Returns:
        What was written, and what of it crossed the origin's link.

    Raises:
        CorruptObject: the spool no longer gives the shard that the index names.
    """
    store = storage.open_store(bucket)
    there = store.present([placement.key for placement in placements])
    missing = [placement for placement in placements if placement.key not in there]
    origin = dataset.source(source_name).site
    if not missing:
        publish("compress", origin, len(placements), len(placements))
        return Stored(0, 0)
    batch = Spool(spool) if spool else None
    written = crossed = 0

    def encode(placement: Placement) -> tuple[Placement, bytes]:
        if batch is None:  # the store has the shard, packed by another codec
            return placement, _recoded(store, dataset.name, placement)
        ids, x, _, _ = batch.read(placement.shard.first_row, placement.shard.rows)
        plain = shards.encode(ids, x)
        if shards.digest(plain) != placement.shard.digest:
            raise CorruptObject(
                f"the spool {spool} does not give shard {placement.shard.digest[:12]}; delete it and run again"
            )
        return placement, plain

    def compress(work: tuple[Placement, bytes]) -> tuple[Placement, bytes]:
        return work[0], shards.pack(work[1], work[0].codec)

    def put(packed: Future[tuple[Placement, bytes]]) -> None:
        nonlocal written, crossed
        work = packed.result()
        store.put(work[0].key, work[1])
        written += len(work[1])
        crossed += 0 if on_premises and work[0].site == origin else len(work[1])
        stored.append(time.time())
        publish("compress", origin, len(there) + len(stored), len(placements))

    stored: list[float] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="compress") as pool:
        stages: list[tuple[str, Callable[[Any], Any]]] = [
            ("encode", encode),
            ("compress", lambda work: pool.submit(compress, work)),
            ("put", put),
        ]
        pipeline.run_stages(missing, stages, depth=max(2, threads))
    if spool:
        spool.unlink(missing_ok=True)
    return Stored(written, crossed)


def _recoded(store: storage.Store, dataset: str, placement: Placement) -> bytes:
    prefix = f"datasets/{dataset}/shards/{placement.shard.digest}.arrow."
    there = store.present([prefix + codec for codec in CODECS.names()])
    for codec in CODECS.names():
        if prefix + codec in there:
            packed = store.get(prefix + codec)
            return shards.unpack(packed, codec, placement.shard.bytes, placement.shard.digest, prefix + codec)
    raise CorruptObject(f"{prefix}* is gone from the store; delete the dataset's index and run again")


compress_shards_task = task(name="compress", task_run_name="compress {source_name}", cache_policy=NO_CACHE)(
    compress_shards
)
