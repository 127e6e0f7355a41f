"""A block on a cluster, which is begun again elsewhere when its worker dies: what was committed is not computed again."""

from __future__ import annotations

import dataclasses

from infra import keys
from infra.engine import Block, BlockDone, escalate_known, run_block


def run_rest(block: Block) -> BlockDone:
    """Answer those shards of a block that the ledger lacks, and escalate the others' unsure rows; what a Dask worker runs.

    Dask does not say whether a block was begun before, so the ledger is asked each time.

    Raises:
        CloudEdgeError: as `run_block`.
    """
    there = block.store.present([keys.result(shard.result) for shard in block.shards])
    known = tuple(shard for shard in block.shards if keys.result(shard.result) in there)
    if not known:
        return run_block(block)
    rest = tuple(shard for shard in block.shards if shard not in known)
    order = block.escalation
    if order and (order.held or order.picked):  # which rows go is chosen elsewhere
        order = None
    first = escalate_known(dataclasses.replace(block, shards=known, escalation=order))
    return added(first, run_block(dataclasses.replace(block, shards=rest))) if rest else first


def added(one: BlockDone, other: BlockDone) -> BlockDone:
    """Both as one block."""
    return BlockDone(
        rows=one.rows + other.rows,
        shards=one.shards + other.shards,
        escalated=one.escalated + other.escalated,
        times=one.times + other.times,
        startup_seconds=max(one.startup_seconds, other.startup_seconds),
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        wan_in=one.wan_in + other.wan_in,
        wan_out=one.wan_out + other.wan_out,
        held_rows=one.held_rows + other.held_rows,
        withdrawn=one.withdrawn + other.withdrawn,
    )
