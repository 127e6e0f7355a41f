"""From a source to its preprocessed records: read, choose rows and splits, transform; block by block.

What ran is named by `preprocessing_digest`, which is part of every result's name: another transform, schema
or plug-in version is another computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog.errors import BadRecord, CatalogError
from infra import keys, storage
from infra.readers import accepted, choose, strict
from infra.readers import content_digest as digest_of_file
from infra.transforms import TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Dataset, Source, Split
    from infra.readers import Rejected

FORMAT_VERSION = 1  # raised when the shards' bytes change for the same records
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Records:
    """Preprocessed records: `ids` and `labels` are Arrow strings (labels may be null), `x` is (n, ...)."""

    ids: pa.Array
    x: NDArray[np.generic]
    labels: pa.Array
    splits: NDArray[np.int8] | None  # index into `SPLITS`; None: the dataset has none


def preprocessing_digest(dataset: Dataset) -> str:
    """The name of everything that turns a stored record into what the model sees."""
    steps = [[t.name, TRANSFORMS.get(t.name, dataset.name).VERSION, t.settings] for t in dataset.transforms]
    return keys.digest_of("preprocessing", FORMAT_VERSION, dataset.record.model_dump(mode="json"), steps)


def local_files(dataset: Dataset, source: Source, folder: Path) -> list[Path]:
    """Local files with the source's content: the one with its records, then those that belong to it.

    Raises:
        CatalogError: one does not exist or cannot be read.
    """
    reader = choose(dataset.format, source.uri, f"dataset {dataset.name}, key `format`")
    uris = [source.uri, *reader.companions(source.uri, dataset.record)]
    return [storage.local_copy(uri, folder / source.name) for uri in uris]


def content_digest(dataset: Dataset, source: Source, files: Sequence[Path]) -> str:
    """The name of a source's records before preprocessing: its files, its rows and its splits."""
    rows = source.rows.model_dump() if source.rows else None
    return keys.digest_of(
        [digest_of_file(path) for path in files], dataset.format, source.name, rows, list(dataset.splits.items())
    )


def source_fingerprint(dataset: Dataset, source: Source, files: Sequence[Path]) -> str:
    """The name of a source's preprocessed batch: its content, what of it is answered, and the preprocessing."""
    return keys.digest_of(
        "source",
        content_digest(dataset, source, files),
        dataset.batch,
        dataset.shard_rows,
        preprocessing_digest(dataset),
        *([dataset.on_bad_record] if dataset.on_bad_record != "fail" else []),
    )


def read_records(
    dataset: Dataset,
    source: Source,
    path: Path,
    splits: Sequence[Split] = (),
    quarantine: Callable[[Sequence[Rejected]], None] = lambda rejected: None,
) -> Iterator[Records]:
    """The source's preprocessed records in file order, in bounded memory.

    Args:
        dataset: says format, schema, transforms and splits.
        source: says which rows of the file are its own.
        path: a local file with the source's content.
        splits: only records of these; empty: all.
        quarantine: is given the source's records that do not fit the schema, where the dataset says so;
            their splits are not known, so it gets those of all.

    Raises:
        UnknownName: the format or a transform is not there.
        BadRecord: a record does not fit the schema, and the dataset's `on_bad_record` is `fail`.
        CatalogError: a transform cannot use its settings.
    """
    reader = choose(dataset.format, source.uri, f"dataset {dataset.name}, key `format`")
    steps = [(t, TRANSFORMS.get(t.name, f"dataset {dataset.name}, key `transforms`")) for t in dataset.transforms]
    row_bytes = dataset.record.values * np.dtype(dataset.record.dtype).itemsize
    wanted = [list(dataset.splits).index(split) for split in splits]
    blocks = reader.read(path, dataset.record, max(1, BLOCK_BYTES // row_bytes))
    for block in blocks if dataset.on_bad_record == "quarantine" else strict(blocks, path):
        rows = np.arange(block.first_row, block.first_row + len(block.x))
        keep = np.ones(len(rows), bool)
        if source.rows:
            keep &= np.isin(rows % source.rows.modulo, source.rows.remainders)
        if block.rejected:
            quarantine([bad for bad in block.rejected if keep[bad.row - block.first_row]])
            keep &= accepted(block)
        chosen = assign_splits(block.x, dataset) if dataset.splits else None
        if chosen is not None and splits:
            keep &= np.isin(chosen, wanted)
        x = block.x[keep]
        for spec, step in steps:
            try:
                x = step.apply(x, **spec.settings)
            except (TypeError, ValueError) as error:
                raise CatalogError(
                    f"dataset {dataset.name}: transform {spec.name!r}: {error}; correct its settings"
                ) from error
        if len(x) != int(keep.sum()):
            raise BadRecord(f"dataset {dataset.name}: the transforms changed the number of records of {path}")
        labels = pa.nulls(len(x), pa.string()) if block.labels is None else _known(block.labels[keep])
        yield Records(
            record_ids(source.name, rows[keep]),
            np.ascontiguousarray(x),
            labels,
            None if chosen is None else chosen[keep].astype(np.int8),
        )


def _known(labels: NDArray[np.str_]) -> pa.Array:
    """Labels as Arrow strings; an empty one is null."""
    texts = pa.array(labels, pa.string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def record_ids(source: str, rows: NDArray[np.integer]) -> pa.Array:
    """Stable ids, `<source>/<row of the file>`: they do not change when records are appended."""
    numbers = pc.utf8_lpad(pa.array(rows).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise(pa.scalar(source), numbers, "/")


def assign_splits(x: NDArray[np.generic], dataset: Dataset) -> NDArray[np.intp]:
    """The split of each record, a function of its content alone: equal records are never parted.

    Multilinear hashing of the record's 64-bit words (Lemire & Kaser, Strongly universal string hashing is
    fast, 2014), finished by the 64-bit mix of splitmix64, read as a fraction of one.

    Args:
        x: (n, ...) records as they were read.
        dataset: its `splits` give the shares.

    Returns:
        (n,) indices into `dataset.splits`, in the order of the YAML.
    """
    if not len(x):
        return np.empty(0, np.intp)
    if x.dtype.kind == "f":
        x = np.add(x, 0, dtype=x.dtype)  # minus zero equals zero
    raw = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    padded = np.zeros((len(raw), -(-raw.shape[1] // 8) * 8), np.uint8)
    padded[:, : raw.shape[1]] = raw
    words = padded.view(np.uint64)
    odd = np.random.default_rng(2014).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    mixed = (words * odd).sum(axis=1, dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    fraction = (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64
    edges = np.cumsum(list(dataset.splits.values()))
    chosen: NDArray[np.intp] = np.minimum(np.searchsorted(edges, fraction, side="right"), len(edges) - 1)
    return chosen
