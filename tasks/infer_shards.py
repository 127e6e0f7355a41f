"""Do a work order at its site: answer what the ledger lacks, escalate what is unsure, write the receipt."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import CorruptObject
from data_catalog.nouns import Escalated, OrderedShard, Receipt, Span, WorkOrder
from infra import compute, engine, keys, sites, storage
from infra.oversight import Oversight
from infra.progress import publish
from infra.second_try import run_rest
from infra.security.access import Keyring

MOST_SHARDS_IN_A_BLOCK = 32


def read_order(order_key: str, bucket: str) -> WorkOrder:
    """The work order of that key.

    Raises:
        ObjectMissing: there is none.
        CorruptObject: the object is no work order.
    """
    try:
        return WorkOrder.model_validate_json(storage.open_store(bucket).get(order_key))
    except ValueError as error:
        raise CorruptObject(f"{order_key} is not a work order; run the flow again to write it anew") from error


def infer_shards(order_key: str, home: Path, bucket: str, dask_address: str | None = None) -> Receipt:
    """Do one work order; needs nothing but the order and the store.

    Shards whose results are in the ledger are not computed again; their unsure rows are escalated all the
    same. Doing an order twice changes nothing.

    Args:
        order_key: of the `WorkOrder` in the store.
        home: the sites' folder on this machine, for the model cache.
        bucket: of the store.
        dask_address: of the site's Dask scheduler; None: threads in this process.

    Returns:
        The receipt, which is also in the store.

    Raises:
        CorruptObject, ModelRefused, StoreError: as `engine.run_block`; results committed so far stay.
    """
    store = storage.open_store(bucket)
    order = read_order(order_key, bucket)
    with Oversight(store, order) as oversight:
        receipt = _do(order, store, home, dask_address, oversight)
    receipt = receipt.model_copy(
        update={
            "bytes_in": receipt.bytes_in + oversight.bytes_in, "wan_in": receipt.wan_in + oversight.bytes_in,
            "bytes_out": receipt.bytes_out + oversight.bytes_out, "wan_out": receipt.wan_out + oversight.bytes_out,
        }
    )  # fmt: skip
    store.put(keys.receipt(order.run_id, order.order_id), receipt.model_dump_json(indent=1).encode())
    return receipt


def _do(order: WorkOrder, store: storage.Store, home: Path, dask_address: str | None, oversight: Oversight) -> Receipt:
    started, waited = time.time(), store.waited_seconds
    there = store.present([keys.result(shard.result) for shard in order.shards])
    known = [shard for shard in order.shards if keys.result(shard.result) in there]
    missing = [shard for shard in order.shards if keys.result(shard.result) not in there]
    model, model_bytes = b"", 0
    if missing and not dask_address:
        model, model_bytes = sites.cached_model(store, order.card, home / "sites" / order.site)
    begun = time.time()
    stage = "answer escalations" if order.order_id.partition(".")[0] == keys.ESCALATIONS else "infer"
    done: list[engine.BlockDone] = []

    def collect(block: engine.BlockDone) -> None:
        done.append(block)
        publish(stage, order.site, sum(b.shards for b in done), len(order.shards))

    def collect_from_afar(block: engine.BlockDone) -> None:
        oversight.committed(block.shards)
        collect(block)

    def blocks(shards: Sequence[OrderedShard]) -> list[engine.Block]:
        return [
            engine.Block(
                order.site,
                order.card,
                order.batch,
                order.escalation,
                tuple(part),
                store,
                None if dask_address else home,
                keys.withdrawal(order.run_id, order.order_id) if order.watched else "",
            )
            for part in cut_blocks(shards, order.threads)
        ]

    publish(stage, order.site, 0, len(order.shards))
    keyring = Keyring(store, order.site, home)  # a cluster's workers have their own
    held, picked = (order.escalation.held, order.escalation.picked) if order.escalation else (False, ())
    try:
        escalate = engine.escalate_known if dask_address else partial(engine.escalate_known, keyring=keyring)
        if not held and not picked:
            compute.map_blocks(escalate, blocks(known), threads=order.threads, address=dask_address, done=collect)
        if dask_address:
            compute.map_blocks(
                run_rest, blocks(missing), threads=order.threads, address=dask_address, done=collect_from_afar
            )
        else:  # one block more than may compute at once
            predictors = engine.Predictors(order.card, model, order.batch, order.threads)
            answer = partial(engine.run_block, predictors=predictors, keyring=keyring, oversight=oversight)
            compute.map_blocks(answer, blocks(missing), threads=order.threads + 1, done=collect)
        withdrawn = {result for block in done for result in block.withdrawn}
        if picked:  # in one piece: of what does not fit the bytes, those stay that gain least
            send = engine.escalate_picked if dask_address else partial(engine.escalate_picked, keyring=keyring)
            whole = dataclasses.replace(blocks(order.shards)[0], shards=order.shards)
            compute.map_blocks(send, [whole], threads=1, address=dask_address, done=done.append)
    except Exception as error:
        raise engine.failed(order.site, error) from error
    waited = store.waited_seconds - waited
    return _receipt(order, started, begun, waited, model_bytes, len(missing) - len(withdrawn), done)


def cut_blocks(shards: Sequence[OrderedShard], threads: int) -> list[Sequence[OrderedShard]]:
    """Cut the shards into blocks, each half of an even share of what is left.

    Large blocks first, because a block's stages overlap only within it; single shards last, because the
    threads should end together (C. Polychronopoulos & D. Kuck, Guided self-scheduling, 1987).
    """
    blocks, first = [], 0
    while first < len(shards):
        size = min(MOST_SHARDS_IN_A_BLOCK, -(-(len(shards) - first) // (2 * threads)))
        blocks.append(shards[first : first + size])
        first += size
    return blocks


def _receipt(
    order: WorkOrder,
    started: float,
    begun: float,
    waited: float,
    model_bytes: int,
    computed: int,
    done: Sequence[engine.BlockDone],
) -> Receipt:
    """Add up what the blocks did."""
    withdrawn = {result for block in done for result in block.withdrawn}
    asked_to_send = order.escalation and order.escalation.picked and not computed
    answered = [] if asked_to_send else [shard for shard in order.shards if shard.result not in withdrawn]
    seconds: dict[str, float] = {"look up": begun - started, "wait": waited}
    edges: dict[str, tuple[float, float]] = {}
    for clock in (clock for block in done for clock in block.times if clock.end):
        seconds[clock.name] = seconds.get(clock.name, 0.0) + clock.busy
        first, last = edges.get(clock.name, (clock.start, clock.end))
        edges[clock.name] = (min(first, clock.start), max(last, clock.end))
    escalated: tuple[Escalated, ...] = tuple(e for block in done for e in block.escalated)
    return Receipt(
        run_id=order.run_id,
        order_id=order.order_id,
        site=order.site,
        tier=order.tier,
        variant=order.card.digest,
        fallback=order.fallback,
        started=started,
        finished=time.time(),
        shards=len(answered),
        rows=sum(shard.rows for shard in answered),
        computed_results=computed,
        reused_results=max(0, len(answered) - computed),
        escalated=tuple(sorted(escalated, key=lambda e: e.shard)),
        held_rows=sum(block.held_rows for block in done),
        seconds=seconds,
        startup_seconds=max((block.startup_seconds for block in done), default=0.0),
        bytes_in=model_bytes + sum(block.bytes_in for block in done),
        bytes_out=sum(block.bytes_out for block in done),
        model_bytes=model_bytes,
        wan_in=model_bytes + sum(block.wan_in for block in done),
        wan_out=sum(block.wan_out for block in done),
        spans=tuple(Span(stage=s, site=order.site, start=a, end=b) for s, (a, b) in edges.items()),
        withdrawn=tuple(sorted(withdrawn)),
    )


infer_shards_task = task(name="infer shards", cache_policy=NO_CACHE)(infer_shards)
