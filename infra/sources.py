"""From a source to its preprocessed records: read, choose rows and splits, transform; block by block.

What ran is named by `preprocessing_digest`, which is part of every result's name: another transform, schema
or plug-in version is another computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog.errors import CatalogError
from infra import keys, storage
from infra.compute import map_stream
from infra.lossy import LOSSY, largest_error
from infra.readers import accepted, choose, strict
from infra.readers import content_digest as digest_of_file
from infra.regrouping import regrouped
from infra.transforms import TRANSFORMS, kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Dataset, Source, Split, Transform
    from infra.readers import Block, Rejected
    from infra.regrouping import Rows
    from infra.transforms import Regrouped, TransformPlugin

    Piece = Block | Callable[[], Block]
    Step = tuple[Transform, TransformPlugin]

FORMAT_VERSION = 1  # raised when the shards' bytes change for the same records
BLOCK_BYTES = 4 << 20  # as much as stays in a core's cache, so that a transform finds what the last one left
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Records:
    """Preprocessed records: `ids` and `labels` are Arrow strings (labels may be null), `x` is (n, ...)."""

    ids: pa.Array
    x: NDArray[np.generic]
    labels: pa.Array
    splits: NDArray[np.int8] | None  # index into `SPLITS`; None: the dataset has none
    lossy_error: float = 0.0  # the largest absolute difference that lossy coding made


def preprocessing_digest(dataset: Dataset, *, training: bool = False) -> str:
    """The name of everything that turns a stored record into what the model sees.

    Args:
        dataset: its fitted transforms have their statistics (see `infra.fitting`), which are part of the name.
        training: count the transforms for training only too, which no batch goes through.
    """
    loaded = [(t, TRANSFORMS.get(t.name, dataset.name)) for t in dataset.transforms]
    steps = [[t.name, step.VERSION, t.settings] for t, step in loaded if training or kind(step) != "augment"]
    if lossy := dataset.lossy:
        steps.append(["lossy", lossy.name, LOSSY.get(lossy.name, _asks(dataset)).VERSION, lossy.settings])
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
        dataset.shard_rows or dataset.shard_bytes,
        preprocessing_digest(dataset),
        *([dataset.on_bad_record] if dataset.on_bad_record != "fail" else []),
    )


def lineage(dataset: Dataset, source: Source) -> str:
    """The name of all versions of a source's batch that differ in the file's content alone: appended, or corrected."""
    rows = source.rows.model_dump() if source.rows else None
    return keys.digest_of(
        "lineage",
        [dataset.format, rows, list(dataset.splits.items()), dataset.batch],
        dataset.shard_rows or dataset.shard_bytes,
        preprocessing_digest(dataset),
    )


def read_records(
    dataset: Dataset,
    source: Source,
    path: Path,
    splits: Sequence[Split] = (),
    *,
    training: bool = False,
    threads: int = 1,
    quarantine: Callable[[Sequence[Rejected]], None] = lambda rejected: None,
) -> Iterator[Records]:
    """The source's preprocessed records in file order, in bounded memory, whatever the number of threads.

    Args:
        dataset: says format, schema, transforms and splits.
        source: says which rows of the file are its own.
        path: a local file with the source's content.
        splits: only records of these; empty: all.
        training: give records of the training split again, as the transforms for training see them.
        threads: how many blocks go through the transforms at a time.
        quarantine: is given the source's records that do not fit the schema, where the dataset says so;
            their splits are not known, so it gets those of all.

    Raises:
        UnknownName: the format or a transform is not there.
        BadRecord: a record does not fit the schema, and the dataset's `on_bad_record` is `fail`.
        CatalogError: a transform cannot use its settings.
    """
    reader = choose(dataset.format, source.uri, f"dataset {dataset.name}, key `format`")
    before, making, after = _steps(dataset)
    row_bytes = dataset.record.values * np.dtype(dataset.record.dtype).itemsize
    read: Iterator[Piece] = getattr(reader, "pieces", reader.read)(
        path, dataset.record, max(1, BLOCK_BYTES // row_bytes)
    )
    prepare = partial(_records, dataset, source, after, frozenset(splits), training)
    in_turn = dataset.on_bad_record == "quarantine"  # the rejected are listed in their order

    def load(piece: Piece) -> Rows:
        block = piece() if callable(piece) else piece
        if not in_turn:
            (block,) = strict([block], path)
        return _own_rows(source, block, quarantine)

    if making:
        spec, step = making
        ready = map_stream(lambda piece: _before(dataset, before, load(piece)), read, threads=1 if in_turn else threads)
        made = regrouped(ready, lambda x, labels: _tried(dataset, spec, lambda: _made(dataset, step, spec, x, labels)))
        return map_stream(prepare, made, threads=threads)
    if in_turn:
        return map_stream(prepare, map(load, read), threads=threads)
    return map_stream(lambda piece: prepare(load(piece)), read, threads=threads)


def _steps(dataset: Dataset) -> tuple[list[Step], Step | None, list[Step]]:
    """The transforms before the one that regroups, that one if there is one, and those after it.

    Raises:
        UnknownName: one is not there.
        CatalogError: two regroup, or one before it is for training only.
    """
    steps = [(t, TRANSFORMS.get(t.name, f"dataset {dataset.name}, key `transforms`")) for t in dataset.transforms]
    kinds = [kind(step) for _, step in steps]
    if "regroup" not in kinds:
        return [], None, steps
    at = kinds.index("regroup")
    if kinds.count("regroup") > 1 or "augment" in kinds[:at]:
        raise CatalogError(
            f"dataset {dataset.name}: one transform may regroup records, and none for training may stand before it;"
            " correct `transforms`"
        )
    return steps[:at], steps[at], steps[at + 1 :]


def _own_rows(source: Source, block: Block, quarantine: Callable[[Sequence[Rejected]], None]) -> Rows:
    """The good rows of a reader's block that are the source's: their numbers in the file, values and labels."""
    numbers = np.arange(block.first_row, block.first_row + len(block.x))
    if not source.rows and not block.rejected:
        return numbers, block.x, block.labels
    own = np.isin(numbers % source.rows.modulo, source.rows.remainders) if source.rows else np.ones(len(numbers), bool)
    if block.rejected:
        quarantine([bad for bad in block.rejected if own[bad.row - block.first_row]])
        own &= accepted(block)
    return numbers[own], block.x[own], None if block.labels is None else block.labels[own]


def _before(dataset: Dataset, steps: Sequence[Step], rows: Rows) -> Rows:
    return rows[0], _transformed(dataset, steps, rows[1]), rows[2]


def _made(
    dataset: Dataset, step: TransformPlugin, spec: Transform, x: NDArray[np.generic], labels: NDArray[np.str_] | None
) -> Regrouped:
    made = step.regroup(x, labels, **spec.settings)
    if made.overlapping and dataset.splits:
        raise ValueError("records that share rows would be in two splits")
    return made


def _records(
    dataset: Dataset, source: Source, steps: Sequence[Step], splits: frozenset[Split], training: bool, rows: Rows
) -> Records:
    """One block: choose the records of `splits`, transform them, name them."""
    numbers, x, labels = rows
    chosen = assign_splits(x, dataset).astype(np.int8) if dataset.splits else None
    if chosen is not None and splits:
        keep = np.isin(chosen, [i for i, split in enumerate(dataset.splits) if split in splits])
        numbers, x, chosen, labels = numbers[keep], x[keep], chosen[keep], None if labels is None else labels[keep]
    y = _transformed(dataset, steps, x)
    if training and chosen is not None and any(kind(step) == "augment" for _, step in steps):
        taught = np.flatnonzero(chosen == list(dataset.splits).index("train"))
        y = np.concatenate([y, _transformed(dataset, steps, x[taught], record_hashes(x[taught]))])
        every = np.concatenate([np.arange(len(x)), taught])
        numbers, chosen, labels = numbers[every], chosen[every], None if labels is None else labels[every]
    y, error = _coded(dataset, y)
    return Records(
        record_ids(source.name, numbers),
        np.ascontiguousarray(y),
        pa.nulls(len(y), pa.string()) if labels is None else _known(labels),
        chosen,
        error,
    )


def _coded(dataset: Dataset, x: NDArray[np.generic]) -> tuple[NDArray[np.generic], float]:
    """The records after the lossy coding that the dataset asks for, and the largest error that it made."""
    if dataset.lossy is None:
        return x, 0.0
    plug_in = LOSSY.get(dataset.lossy.name, _asks(dataset))
    try:
        coded = plug_in.apply(x, **dataset.lossy.settings)
        return coded, largest_error(x, coded)
    except (TypeError, ValueError) as error:
        raise CatalogError(
            f"dataset {dataset.name}: lossy coding {dataset.lossy.name!r}: {error}; correct `lossy`, or leave it out"
        ) from error


def _asks(dataset: Dataset) -> str:
    return f"dataset {dataset.name}, key `lossy`"


def _transformed(
    dataset: Dataset, steps: Sequence[Step], x: NDArray[np.generic], seeds: NDArray[np.uint64] | None = None
) -> NDArray[np.generic]:
    """The records after all steps, in order; those for training only where there are seeds."""
    for number, (spec, step) in enumerate(steps):
        before = x
        if not hasattr(step, "augment"):
            x = _tried(dataset, spec, partial(step.apply, before, **spec.settings))
        elif seeds is not None:
            x = _tried(dataset, spec, partial(step.augment, before, seeds + np.uint64(number), **spec.settings))
        if len(x) != len(before):
            raise CatalogError(f"dataset {dataset.name}: transform {spec.name!r} changed the number of records")
    return x


def _tried(dataset: Dataset, spec: Transform, call: Callable[[], Made]) -> Made:
    try:
        return call()
    except (TypeError, ValueError) as error:
        raise CatalogError(f"dataset {dataset.name}: transform {spec.name!r}: {error}; correct its settings") from error


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

    Args:
        x: (n, ...) records as they were read, or as they were made of rows.
        dataset: its `splits` give the shares.

    Returns:
        (n,) indices into `dataset.splits`, in the order of the YAML.
    """
    fraction = record_hashes(x).astype(np.float64) / 2.0**64
    edges = np.cumsum(list(dataset.splits.values()))
    chosen: NDArray[np.intp] = np.minimum(np.searchsorted(edges, fraction, side="right"), len(edges) - 1)
    return chosen


def record_hashes(x: NDArray[np.generic]) -> NDArray[np.uint64]:
    """(n,) 64-bit hashes of the records' content; equal records have equal ones.

    Multilinear hashing of the record's 64-bit words (Lemire & Kaser, Strongly universal string hashing is
    fast, 2014), finished by the 64-bit mix of splitmix64.
    """
    if not len(x):
        return np.empty(0, np.uint64)
    if x.dtype.kind == "f":
        x = np.add(x, 0, dtype=x.dtype)  # minus zero equals zero
    raw = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    if raw.shape[1] % 8:
        padded = np.zeros((len(raw), -(-raw.shape[1] // 8) * 8), np.uint8)
        padded[:, : raw.shape[1]] = raw
        raw = padded
    words = raw.view(np.uint64)
    odd = np.random.default_rng(2014).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    mixed = np.einsum("ij,j->i", words, odd)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    hashes: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashes
