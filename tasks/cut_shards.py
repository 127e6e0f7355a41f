"""Cut a source's preprocessed batch into equal shards and write its two indexes."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Dataset, Shard
from infra import codec_trials, keys, ledger, partition, shards, silence, sources, storage
from infra.progress import publish
from infra.spool import Spool


def cut_shards(
    dataset: Dataset,
    source_name: str,
    fingerprint: str,
    spool: Path | None,
    work: Path,
    bucket: str,
    lossy_error: float = 0.0,
) -> ledger.Index:
    """Cut one source; where there is no spool, the store holds the index already.

    The rows of two shards differ by at most one; where an earlier version of the batch was cut, its shards are
    cut again (`infra.partition`). The record index (ids, labels, splits; a row group a shard) is written before
    the shard index, so whoever finds the latter finds both.

    Args:
        dataset: the catalog entry, `sized`; says how large a shard is.
        source_name: which of its sources.
        fingerprint: of the preprocessed batch.
        spool: the batch; None if nothing has changed since the last run.
        work: the run's own folder on this machine.
        bucket: of the store.
        lossy_error: the largest that lossy coding made in the batch, for the index.

    Returns:
        The source's shards in order, and what each codec did to the first.
    """
    store = storage.open_store(bucket)
    index_key = keys.shard_index(dataset.name, source_name, fingerprint)
    if spool is None:
        return ledger.read_index(store.get(index_key), index_key)
    source = dataset.source(source_name)
    origin = source.site
    batch = Spool(spool)
    most = partition.rows_of_a_shard(dataset, batch.read(0, 1)[1].nbytes)
    before = silence.last_index(store, dataset, source)  # without it a fresh cut is right, only dearer
    sizes = partition.shard_sizes(batch.rows, most, [shard.rows for shard in before.shards] if before else [])
    cut: list[Shard] = []
    records = work / f"{source_name}-records.parquet"
    with pq.ParquetWriter(records, ledger.RECORDS, compression="zstd", write_page_checksum=True) as writer:
        for first, end in pairwise(accumulate(sizes, initial=0)):
            ids, x, labels, splits = batch.read(first, end - first)
            plain = shards.encode(ids, x)
            cut.append(
                Shard(
                    digest=shards.digest(plain), rows=len(x), bytes=len(plain), raw_bytes=x.nbytes,
                    origin=origin, source=source_name, first_row=first,
                )
            )  # fmt: skip
            writer.write_table(pa.table([ids, labels, splits], ledger.RECORDS), row_group_size=len(x))
            publish("partition", origin, len(cut), len(sizes))
    store.put_file(keys.record_index(dataset.name, source_name, fingerprint), records)
    records.unlink()
    trials = codec_trials.measure(shards.encode(*batch.read(0, cut[0].rows)[:2])).tried
    store.put(index_key, ledger.write_index(cut, fingerprint, trials, lossy_error))
    store.put(keys.latest_index(dataset.name, source_name, sources.lineage(dataset, source)), fingerprint.encode())
    return ledger.Index(tuple(cut), fingerprint, trials, lossy_error)


cut_shards_task = task(name="partition", task_run_name="partition {source_name}", cache_policy=NO_CACHE)(cut_shards)
