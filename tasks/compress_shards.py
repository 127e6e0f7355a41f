"""Compress a source's shards at their origin, by the codec that the plan chose for their link, and store them.

Those of a restricted dataset are encrypted then, for their origin and the sites that the plan gives them to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import CorruptObject
from data_catalog.nouns import Dataset, Placement
from data_catalog.orders import Compressed
from infra import keys, links, pipeline, shards, storage
from infra.progress import publish
from infra.security.access import Keyring, shards_of
from infra.spool import Spool


def compress_shards(
    dataset: Dataset,
    source_name: str,
    placements: list[Placement],
    spool: Path | None,
    on_premises: bool,
    bucket: str,
    threads: int = 1,
) -> Compressed:
    """Put every shard that the store lacks, or that its site cannot open; encoding, compression and transfer overlap.

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
        What was written, what of it crossed the origin's link, and how fast.

    Raises:
        CorruptObject: the spool no longer gives the shard that the index names.
        KeyMissing: the origin's private key is not on this machine.
    """
    store = storage.open_store(bucket)
    there = store.present([placement.key for placement in placements])
    origin = dataset.source(source_name).site
    keyring, restricted = Keyring(store, origin), dataset.sensitivity == "restricted"
    shard_set, readers = "", sorted({placement.site for placement in placements})
    if restricted:
        shard_set = shards_of(dataset.name, source_name, [placement.shard.digest for placement in placements])
        keyring.key_of(shard_set, readers)
        # one that was answered at its origin is not read again, and if nothing has changed, its origin has the key
        kept = {p.key for p in placements if p.reused and p.site == origin and spool is None}
        there = kept & there | keyring.share([(p.key, [p.site]) for p in placements if p.key in there - kept])
    missing = [placement for placement in placements if placement.key not in there]
    if not missing:
        _remove_plain(store, dataset, placements)
        publish("compress", origin, len(placements), len(placements))
        return Compressed(bytes=0, wan_bytes=0)
    batch = Spool(spool) if spool else None
    others = {} if spool else _packed(store, dataset.name, placements)
    written, crossing = 0, list[links.Transfer]()  # what crosses the origin's link

    def encode(placement: Placement) -> tuple[Placement, bytes]:
        if batch is None:  # the store has the shard, packed by another codec
            return placement, _recoded(store, others, dataset.name, placement, keyring)
        ids, x, _, _ = batch.read(placement.shard.first_row, placement.shard.rows)
        plain = shards.encode(ids, x)
        if shards.digest(plain) != placement.shard.digest:
            raise CorruptObject(
                f"the spool {spool} does not give shard {placement.shard.digest[:12]}; delete it and run again"
            )
        return placement, plain

    def compress(work: tuple[Placement, bytes]) -> tuple[Placement, bytes]:
        packed = shards.pack(work[1], work[0].codec)
        return work[0], keyring.seal(work[0].key, packed, shard_set, readers) if restricted else packed

    def upload(placement: Placement, packed: bytes) -> None:
        begun = time.time()
        store.put(placement.key, packed)
        if not (on_premises and placement.site == origin):
            crossing.append((begun, time.time(), len(packed)))

    def send(packed: Future[tuple[Placement, bytes]]) -> tuple[tuple[Placement, bytes], Future[None]]:
        work = packed.result()
        if uploading and work[0] is missing[-1]:  # alone, so that its reader is through with the others when it comes
            wait(uploading)
        uploading.append(uploads.submit(upload, *work))
        del uploading[: -links.UPLOADS]
        return work, uploading[-1]

    def sent(under_way: tuple[tuple[Placement, bytes], Future[None]]) -> None:
        nonlocal written
        work, done = under_way
        done.result()
        written += len(work[1])
        stored.append(time.time())
        publish("compress", origin, len(there) + len(stored), len(placements))

    stored: list[float] = []
    uploading: list[Future[None]] = []
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="compress") as pool,
        ThreadPoolExecutor(links.UPLOADS, thread_name_prefix="upload") as uploads,
    ):
        stages: list[tuple[str, Callable[[Any], Any]]] = [
            ("encode", encode),
            ("compress", lambda work: pool.submit(compress, work)),
            ("upload", send),
            ("stored", sent),
        ]
        pipeline.run_stages(missing, stages, depth=max(2, threads))
    if spool:
        spool.unlink(missing_ok=True)
    _remove_plain(store, dataset, placements)
    return Compressed(bytes=written, wan_bytes=sum(size for _, _, size in crossing), sending=links.sending(crossing))


def _remove_plain(store: storage.Store, dataset: Dataset, placements: list[Placement]) -> None:
    """Remove what a restricted dataset's shards left in the store while it was public."""
    if dataset.sensitivity == "public":
        return
    mine = {placement.shard.digest for placement in placements}
    for key in store.keys(keys.shards(dataset.name)):
        if not keys.is_encrypted(key) and keys.shard_of(key)[0] in mine:
            store.delete(key)


def _packed(store: storage.Store, dataset: str, placements: list[Placement]) -> dict[str, str]:
    """By a shard's digest: a key under which the store has it."""
    wanted = {placement.shard.digest for placement in placements}
    there = store.present([key for key in store.keys(keys.shards(dataset)) if keys.shard_of(key)[0] in wanted])
    return {keys.shard_of(key)[0]: key for key in sorted(there, reverse=True)}


def _recoded(
    store: storage.Store, others: dict[str, str], dataset: str, placement: Placement, keyring: Keyring
) -> bytes:
    digest = placement.shard.digest
    if digest not in others:
        raise CorruptObject(
            f"{keys.shard(dataset, digest, '*')} is gone from the store; delete the dataset's index and run again"
        )
    key = others[digest]
    packed = keyring.open(key, store.get(key)) if keys.is_encrypted(key) else store.get(key)
    return shards.unpack(packed, keys.shard_of(key)[1], placement.shard.bytes, digest, key)


compress_shards_task = task(name="compress", task_run_name="compress {source_name}", cache_policy=NO_CACHE)(
    compress_shards
)
