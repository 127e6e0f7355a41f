"""Preprocess a source where its data is born: read, check, choose the batch's rows, transform, spool.

Records that do not fit the schema stop it, or go to the store's quarantine, as the dataset says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadRecord, ObjectMissing
from data_catalog.nouns import Dataset, Source
from infra import keys, ledger, quarantine, sources, spool, storage
from infra.progress import publish
from infra.security.access import Keyring, shards_of


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """A source's preprocessed batch: its fingerprint, and its spool if it was not in the store already.

    `quarantined_rows` of the source were left out; `lossy_error` is the largest that lossy coding made in the spool.
    """

    source: str
    fingerprint: str
    spool: Path | None
    quarantined_rows: int = 0
    lossy_error: float = 0.0


def preprocess_source(dataset: Dataset, source_name: str, work: Path, bucket: str, threads: int = 1) -> Preprocessed:
    """Preprocess one source, unless the store holds shards of just this.

    Args:
        dataset: the catalog entry.
        source_name: which of its sources.
        work: the run's own folder on this machine.
        bucket: of the store.
        threads: how many blocks go through the transforms at a time.

    Raises:
        BadRecord: a record does not fit the schema, or no record is in the batch.
        CatalogError: the source cannot be found, or a transform has wrong settings.
    """
    source = dataset.source(source_name)
    store = storage.open_store(bucket)
    files = sources.local_files(dataset, source, work / "downloads")
    fingerprint = sources.source_fingerprint(dataset, source, files)
    key = keys.shard_index(dataset.name, source.name, fingerprint)
    rejects = keys.quarantine(dataset.name, source.name, fingerprint)
    try:
        index = ledger.read_index(store.get(key), key)
        known = quarantine.count(store, rejects, work) if dataset.on_bad_record == "quarantine" else 0
        if not _lacks_an_object(store, dataset.name, source.name, index) and _can_open(store, dataset, source, index):
            return Preprocessed(source.name, fingerprint, None, known)
    except ObjectMissing:
        pass  # the first run on this batch
    target = work / "spool" / source.name / "batch.arrow"
    left_out = quarantine.Quarantine(
        work / f"{source.name}-quarantine.parquet", source.uri, restricted=dataset.sensitivity == "restricted"
    )
    blocks = sources.read_records(dataset, source, files[0], dataset.batch, threads=threads, quarantine=left_out.add)
    errors = [0.0]

    def watched() -> Iterator[sources.Records]:
        for records in blocks:
            errors[0] = max(errors[0], records.lossy_error)
            yield records

    rows = spool.write(target, watched(), list(dataset.splits))
    if dataset.on_bad_record == "quarantine":
        left_out.store(store, rejects)
    if not rows:
        rejected = f" ({left_out.rows} do not fit the schema, see {rejects})" if left_out.rows else ""
        raise BadRecord(
            f"source {source.name} of dataset {dataset.name} has no record in the batch{rejected};"
            " check `rows`, `batch` and the schema"
        )
    publish("preprocess", source.site, 1, 1, "sources")
    return Preprocessed(source.name, fingerprint, target, left_out.rows, errors[0])


def _lacks_an_object(store: storage.Store, dataset: str, source: str, index: ledger.Index) -> bool:
    """Whether the record index, or one of the shards under any codec at all, is gone from the store."""
    if not store.exists(keys.record_index(dataset, source, index.fingerprint)):
        return True
    there = {keys.shard_of(key)[0] for key in store.keys(keys.shards(dataset))}
    return not there.issuperset(shard.digest for shard in index.shards)


def _can_open(store: storage.Store, dataset: Dataset, source: Source, index: ledger.Index) -> bool:
    """Whether the origin can open what it has encrypted; if it has lost its key, or never had one, it begins anew."""
    if dataset.sensitivity == "public":
        return True
    shard_set = shards_of(dataset.name, source.name, [shard.digest for shard in index.shards])
    return Keyring(store, source.site).find(shard_set) is not None


preprocess_source_task = task(name="preprocess", task_run_name="preprocess {source_name}", cache_policy=NO_CACHE)(
    preprocess_source
)
