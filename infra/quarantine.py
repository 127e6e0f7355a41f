"""Records that do not fit the schema, in the store with their reasons: a Parquet object a source and fingerprint.

It is written before the source's indexes, even when it is empty, so that whoever finds an index of a dataset
with `on_bad_record: quarantine` finds it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog.errors import CorruptObject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.readers import Rejected
    from infra.storage import Store

COLUMNS = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("values", pa.string())])

UNSAID = "does not fit the schema"  # a reason quotes a value


class Quarantine:
    """A local Parquet file that grows by the records of one source that are left out."""

    def __init__(self, path: Path, file: str, *, restricted: bool = False) -> None:
        """Write to `path`; `file` is what the records' file is called; of restricted ones no value is written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows, self._file, self._restricted = path, 0, file, restricted
        self._writer = pq.ParquetWriter(path, COLUMNS, compression="zstd", write_page_checksum=True)

    def add(self, rejected: Sequence[Rejected]) -> None:
        """Write records: the row of the file, why it was left out, and its first values as JSON."""
        columns = [
            pa.array([self._file] * len(rejected), pa.string()),
            pa.array([bad.row for bad in rejected], pa.int64()),
            pa.array([UNSAID if self._restricted else bad.reason for bad in rejected], pa.string()),
            pa.array([None if self._restricted else bad.values for bad in rejected], pa.string()),
        ]
        self._writer.write_table(pa.table(columns, COLUMNS))
        self.rows += len(rejected)

    def store(self, store: Store, key: str) -> None:
        """Finish the file, make it an object, and remove it here."""
        self._writer.close()
        store.put_file(key, self.path)
        self.path.unlink()


def count(store: Store, key: str, work: Path) -> int:
    """The number of records in an object that `Quarantine.store` wrote.

    Args:
        store: has it.
        key: of the object.
        work: a folder for a copy.

    Raises:
        ObjectMissing: it is not there.
        CorruptObject: it is something else; names it.
    """
    copy = work / f"{key.rpartition('/')[2]}.quarantine"
    store.get_file(key, copy)
    try:
        return int(pq.read_metadata(copy).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{key} is corrupt ({str(error)[:120]}); delete that object and run again") from error
    finally:
        copy.unlink(missing_ok=True)
