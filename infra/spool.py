"""The spool of a source: its preprocessed batch on the origin's own disk, between preprocess and compress.

An uncompressed Arrow file, read back a block at a time, so that a batch larger than memory goes through and leaves no
trace in the resident memory. It is written under a temporary name and renamed when whole.
"""

from __future__ import annotations

import shutil
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_catalog.errors import CorruptObject, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.sources import Records


BLOCKS_AT_HAND = 2  # a shard is read after the one before it, and seldom spans more


class Spool:
    """Random access to the rows of a spool file."""

    def __init__(self, path: Path) -> None:
        """Open a file that `write` has finished.

        Raises:
            CorruptObject: it is not such a file.
        """
        try:
            with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:  # a map: only headers are read
                rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
            self._reader = pa.ipc.open_file(pa.OSFile(str(path)))
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptObject(f"the spool {path} is damaged ({error}); delete it and run again") from error
        self._block = lru_cache(maxsize=BLOCKS_AT_HAND)(self._reader.get_batch)
        self._starts = np.cumsum([0, *rows])
        self.rows = int(self._starts[-1])

    def read(self, first: int, rows: int) -> tuple[pa.Array, NDArray[np.generic], pa.Array, pa.Array]:
        """Rows `first` to `first + rows`: ids, records (n, ...), labels and splits (both may be null)."""
        parts = []
        for number, (start, end) in enumerate(pairwise(self._starts)):
            low, high = max(first, start), min(first + rows, end)
            if low < high:
                parts.append(self._block(number).slice(low - start, high - low))
        table = pa.Table.from_batches(parts).combine_chunks()
        x = np.concatenate([part.column("x").to_numpy_ndarray() for part in parts])
        ids, labels, splits = (pa.concat_arrays(table.column(name).chunks) for name in ("record_id", "label", "split"))
        return ids, x, labels, splits


def write(path: Path, blocks: Iterable[Records], split_names: list[str]) -> int:
    """Write a spool file and return its number of rows.

    Args:
        path: where it will lie when it is whole; other files of its folder, older spools of the same
            source, are removed.
        blocks: the records; with none the file is not written.
        split_names: what the records' split numbers mean.

    Raises:
        StoreFull: the disk has no space left; what was written is removed.
    """
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    unfinished = path.with_suffix(".tmp")
    names = pa.array([*split_names], pa.string())
    writer, rows = None, 0
    try:
        with pa.OSFile(str(unfinished), "wb") as sink:
            for block in blocks:
                if not len(block.x):
                    continue
                splits = (
                    pa.nulls(len(block.x), pa.string()) if block.splits is None else names.take(pa.array(block.splits))
                )
                tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(block.x)
                batch = pa.record_batch({"record_id": block.ids, "x": tensor, "label": block.labels, "split": splits})
                writer = writer or pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
                rows += batch.num_rows
            if writer:
                writer.close()
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreFull(f"{unfinished.parent} cannot be written ({error}); free some space and run again") from error
    if rows:
        unfinished.rename(path)
    return rows
