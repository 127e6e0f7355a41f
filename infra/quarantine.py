"""Records that do not fit the schema, in the store with their reasons: a Parquet object a source and fingerprint.

It is written before the source's indexes, even when it is empty, so that whoever finds an index of a dataset
with `on_bad_record: quarantine` finds it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog.errors import CorruptObject
from infra import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.readers import Rejected
    from infra.security.access import Keyring
    from infra.storage import Store

COLUMNS = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("values", pa.string())])


class Quarantine:
    """A local Parquet file that grows by the records of one source that are left out."""

    def __init__(self, path: Path, file: str) -> None:
        """Write to `path`; `file` is what the records' file is called."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows, self._file = path, 0, file
        self._writer = pq.ParquetWriter(path, COLUMNS, compression="zstd", write_page_checksum=True)

    def add(self, rejected: Sequence[Rejected]) -> None:
        """Write records: the row of the file, why it was left out, and its first values as JSON."""
        columns = [
            pa.array([self._file] * len(rejected), pa.string()),
            pa.array([bad.row for bad in rejected], pa.int64()),
            pa.array([bad.reason for bad in rejected], pa.string()),
            pa.array([bad.values for bad in rejected], pa.string()),
        ]
        self._writer.write_table(pa.table(columns, COLUMNS))
        self.rows += len(rejected)

    def store(self, store: Store, key: str, keyring: Keyring) -> None:
        """Finish the file, make it an object, which its origin alone can read if it is encrypted, and remove it here."""
        self._writer.close()
        if keys.is_encrypted(key):
            store.put(key, keyring.seal(key, self.path.read_bytes(), f"rejected rows, {key}"))
        else:
            store.put_file(key, self.path)
        self.path.unlink()


def count(store: Store, key: str, work: Path, keyring: Keyring) -> int:
    """The number of records in an object that `Quarantine.store` wrote.

    Args:
        store: has it.
        key: of the object.
        work: a folder for a copy.
        keyring: of the source's origin.

    Raises:
        ObjectMissing: it is not there.
        KeyMissing: it is encrypted, and the origin has no access to it.
        CorruptObject: it is something else; names it.
    """
    copy = work / f"{key.rpartition('/')[2]}.quarantine"
    store.get_file(key, copy)
    try:
        if keys.is_encrypted(key):
            copy.write_bytes(keyring.open(key, copy.read_bytes()))
        return int(pq.read_metadata(copy).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{key} is corrupt ({str(error)[:120]}); delete that object and run again") from error
    finally:
        copy.unlink(missing_ok=True)
