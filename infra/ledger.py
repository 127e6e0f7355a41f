"""The ledger of results, and the indexes it is checked against; all Parquet.

A result is named by what it computes (`keys.result_name`), so writing it twice writes the same object, and
whether a piece of work is done is whether its object exists.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog.errors import CorruptObject
from data_catalog.nouns import CodecTrial, Shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import Tier

RESULT = pa.schema(
    [("record_id", pa.string()), ("prediction", pa.int32()), ("confidence", pa.float32()),
     ("tier", pa.dictionary(pa.int8(), pa.string())), ("variant", pa.dictionary(pa.int8(), pa.string()))]
)  # fmt: skip
INDEX = pa.schema(
    [("digest", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("raw_bytes", pa.int64()),
     ("origin", pa.string()), ("source", pa.string()), ("first_row", pa.int64())]
)  # fmt: skip
RECORDS = pa.schema([("record_id", pa.string()), ("label", pa.string()), ("split", pa.string())])


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed for the cloud from one shard, as its result remembers it; no rows: nothing was."""

    threshold: float
    codec: str
    rows: int = 0
    digest: str = ""
    bytes: int = 0  # before compression


def write_result(
    ids: pa.Array,
    prediction: NDArray[np.int32],
    confidence: NDArray[np.float32],
    tier: Tier,
    variant: str,
    packed: Packed | None = None,
) -> bytes:
    """The Parquet bytes of one result.

    Args:
        ids: (n,) record ids.
        prediction: (n,) class numbers.
        confidence: (n,) calibrated confidences.
        tier: where it was computed.
        variant: digest of the variant that answered.
        packed: what of the shard went to the cloud, so that a later run need not read the shard again.
    """
    same = pa.array(np.zeros(len(ids), np.int8))
    table = pa.table(
        [
            ids,
            pa.array(prediction, pa.int32()),
            pa.array(confidence, pa.float32()),
            pa.DictionaryArray.from_arrays(same, [tier]),
            pa.DictionaryArray.from_arrays(same, [variant]),
        ],
        RESULT,
    )
    if packed:
        table = table.replace_schema_metadata({"packed": json.dumps(asdict(packed))})
    return parquet(table)


def packed_in(result: pa.Table) -> Packed | None:
    """What the result remembers of its escalated rows."""
    metadata = result.schema.metadata or {}
    return Packed(**json.loads(metadata[b"packed"])) if b"packed" in metadata else None


def parquet(table: pa.Table) -> bytes:
    """The table as Parquet that carries its own digest, so that a flipped bit is an error wherever it lies.

    Parquet's own checksums cover the pages, but neither their headers nor the footer, where a flipped bit
    can drop rows or change what a result remembers. So the SHA-256 of the file stands between the last page
    and the footer, where no reader looks: offsets count from the beginning.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", use_dictionary=["tier", "variant"], write_page_checksum=True,
        write_statistics=False, column_encoding={"record_id": "DELTA_BYTE_ARRAY"} if "record_id" in table.column_names else None,
    )  # fmt: skip
    data: bytes = sink.getvalue().to_pybytes()
    pages = len(data) - _footer_bytes(data)
    return data[:pages] + hashlib.sha256(data).digest() + data[pages:]


def _footer_bytes(data: bytes) -> int:
    """Size of the footer with its end: the footer's own length and four letters."""
    return int.from_bytes(data[-8:-4], "little") + 8


def _verify(data: bytes, digest: bytes) -> None:
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("its content has another digest than it carries")


def read_parquet(data: bytes, key: str) -> pa.Table:
    """The table of an object that `parquet` made.

    Raises:
        CorruptObject: it is anything else, or a bit of it has changed; names the object.
    """
    footer = max(0, len(data) - _footer_bytes(data))
    pages = max(0, footer - hashlib.sha256().digest_size)
    try:
        _verify(data[:pages] + data[footer:], data[pages:footer])
        return pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CorruptObject(f"{key} is corrupt ({reason}); delete that object and run again") from error


def read_result(data: bytes, key: str) -> pa.Table:
    """The table of a result, with the ledger's columns.

    Raises:
        CorruptObject: it is something else.
    """
    table = read_parquet(data, key)
    if table.column_names != RESULT.names:
        raise CorruptObject(f"{key} is not a result (columns {table.column_names}); delete that object and run again")
    return table


def write_index(
    shards: Sequence[Shard], fingerprint: str, trials: Sequence[CodecTrial], lossy_error: float = 0.0
) -> bytes:
    """The Parquet bytes of a source's shard index.

    Its metadata say what it was cut from, the codec trials, and the largest error of lossy coding.
    """
    columns = {name: [getattr(shard, name) for shard in shards] for name in INDEX.names}
    metadata = {"fingerprint": fingerprint, "trials": json.dumps([trial.model_dump() for trial in trials])}
    if lossy_error:
        metadata["lossy_error"] = repr(float(lossy_error))
    return parquet(pa.table(columns, INDEX).replace_schema_metadata(metadata))


@dataclass(frozen=True, slots=True)
class Index:
    """A source's shards in order, what they were cut from, and what codecs did to one of them."""

    shards: tuple[Shard, ...]
    fingerprint: str
    trials: tuple[CodecTrial, ...]
    lossy_error: float = 0.0


def read_index(data: bytes, key: str) -> Index:
    """The index that `write_index` wrote.

    Raises:
        CorruptObject: it is something else.
    """
    table = read_parquet(data, key)
    try:
        metadata = table.schema.metadata
        return Index(
            shards=tuple(Shard(**row) for row in table.to_pylist()),
            fingerprint=metadata[b"fingerprint"].decode(),
            trials=tuple(CodecTrial(**trial) for trial in json.loads(metadata[b"trials"])),
            lossy_error=float(metadata.get(b"lossy_error", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(f"{key} is not a shard index; delete that object and run again") from error
