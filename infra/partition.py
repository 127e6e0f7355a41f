"""Where a batch is cut into shards: equal ones, of a size that the sites can hold, and the same ones after an append.

The rows of a fresh cut differ by at most one. Rows that are appended later become shards of their own, so the
shards that were there keep their digests, and with them their objects and results; rows that are too few for
half a shard are cut anew with the ones appended after them, as long as those are as many (so their number grows
with the logarithm of the appends, like the trees of P. O'Neil et al., The log-structured merge-tree, 1996).
Equal sizes for all rows after every append are not to be had together with that: see
`docs/adr/0009-shards-that-stay.md`.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import Dataset, Site

# A block of the engine has up to nine shards on their way, each packed or plain, and the packed one beside
# it while it is unpacked; there is a block more than threads.
SHARDS_IN_A_BLOCK = 18


def sized(dataset: Dataset, sites: Sequence[Site]) -> Dataset:
    """The dataset with a shard size that every site's memory can hold.

    Args:
        dataset: its `shard_bytes` is the wish.
        sites: those that say how much memory the engine may use, `memory_bytes`, limit it.
    """
    limits = [site.memory_bytes // (SHARDS_IN_A_BLOCK * (site.threads + 1)) for site in sites if site.memory_bytes]
    return dataset.model_copy(update={"shard_bytes": max(1, min([dataset.shard_bytes, *limits]))})


def rows_of_a_shard(dataset: Dataset, row_bytes: int) -> int:
    """Most rows in a shard: `shard_rows` where the dataset says so, else as many as `shard_bytes` hold.

    Args:
        dataset: of `sized`.
        row_bytes: of one preprocessed record.
    """
    return dataset.shard_rows or max(1, dataset.shard_bytes // max(1, row_bytes))


def shard_sizes(rows: int, most: int, earlier: Sequence[int] = ()) -> list[int]:
    """The rows of each shard, in order.

    Args:
        rows: in the batch.
        most: rows that a shard may have.
        earlier: the sizes that an earlier version of the batch was cut into; the batch begins with its rows.

    Returns:
        Sizes from 1 to `most` that add up to `rows`. Without `earlier` they differ by at most one; with it they begin
        as it does, but for its last ones that are shorter than half of `most` and than what was appended.
    """
    kept: list[int] = []
    left = rows
    for size in earlier:
        if size > min(left, most):
            break
        kept.append(size)
        left -= size
    while kept and left and kept[-1] <= left and 2 * kept[-1] < most:
        left += kept.pop()
    count = ceil(left / most)
    return kept + [left * (i + 1) // count - left * i // count for i in range(count)]
