"""Shards as bytes: an Arrow IPC stream of record ids and one tensor column, named by its SHA-256."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_catalog.errors import CorruptObject
from infra.codecs import CODECS, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(ids: pa.Array, x: NDArray[np.generic]) -> bytes:
    """The Arrow stream of the records.

    Args:
        ids: (n,) strings.
        x: (n, ...) values; the shape travels as Arrow's canonical fixed-shape tensor type.
    """
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))
    batch = pa.record_batch({"record_id": ids, "x": tensor})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode(data: bytes) -> tuple[pa.Array, NDArray[np.generic]]:
    """The ids and the records of `encode`; `x` is a read-only view of `data`."""
    with pa.ipc.open_stream(data) as reader:
        batch = reader.read_next_batch()
    return batch.column("record_id"), batch.column("x").to_numpy_ndarray()


def tensor(data: bytes) -> Tensor | None:
    """Where the records of `encode` lie in its bytes, for the codecs that know numbers; None if they hold none."""
    whole = pa.py_buffer(data)
    with pa.ipc.open_stream(whole) as reader:
        column = reader.read_next_batch().column("x")
    values = column.storage.buffers()[-1]
    shape = (len(column), *column.type.shape)
    found = Tensor(values.address - whole.address, shape, np.dtype(column.type.value_type.to_pandas_dtype()).name)
    return found if found.lies_in(len(data)) else None


def pack(plain: bytes, codec: str) -> bytes:
    """The object of a shard's Arrow bytes under that codec."""
    return CODECS.get(codec).compress(plain, tensor(plain))


def digest(data: bytes) -> str:
    """The name of a shard: SHA-256 of its Arrow bytes."""
    return hashlib.sha256(data).hexdigest()


def unpack(packed: bytes, codec: str, size: int, expected: str, key: str) -> bytes:
    """Decompress an object and verify that it holds what its name promises.

    Args:
        packed: the object's bytes.
        codec: what compressed it.
        size: bytes it must give.
        expected: SHA-256 it must have.
        key: for the error.

    Raises:
        CorruptObject: it does not; names the object and the remedy.
    """
    try:
        plain = CODECS.get(codec, key).decompress(packed, size)
    except ValueError as error:
        raise _corrupt(key, str(error)) from error
    if digest(plain) != expected:
        raise _corrupt(key, "its content has another digest than its name")
    return plain


def _corrupt(key: str, why: str) -> CorruptObject:
    return CorruptObject(f"{key} is corrupt ({why}); delete that object and run again, it will be made anew")
