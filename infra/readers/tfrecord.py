"""TFRecord files of `tf.train.Example`, plain or gzipped; TensorFlow is not needed.

The values of a record are those of the features in `record.columns`, or of all but the label, by name. A
feature of bytes holds one record in its dtype, little-endian, or a picture (PNG, JPEG, TIFF).
A record whose checksum is wrong is a bad record; where a length's is, the rest of the file cannot be
found, so the file is refused. Format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import gzip
import struct
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, cast

import google_crc32c
import numpy as np

from data_catalog.nouns import Schema
from infra.readers import Block, Holds, _protobuf, _rows, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".tfrecord", ".tfrecords", ".tfrecord.gz", ".tfrecords.gz")
HOLDS = Holds(dtypes=("uint8", "int8", "uint16", "int16", "int32", "float32"))
OTHER_FEATURES = 16 << 20  # bytes of a record beside its values


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records; see the family's contract.

    Raises:
        BadRecord: not TFRecord, or cut.
    """
    with whole(path, "TFRecord"), ExitStack() as files:
        stream: IO[bytes] = files.enter_context(path.open("rb"))
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if packed:
            stream = cast("IO[bytes]", files.enter_context(gzip.GzipFile(fileobj=stream)))
        yield from _rows.blocks(_records(stream, record, path), record, path, block_rows)


def _records(stream: IO[bytes], record: Schema, path: Path) -> Iterator[_rows.Row]:
    label = None if record.label is None else str(record.label)
    columns: tuple[str, ...] | None = record.columns
    for data in _frames(stream, OTHER_FEATURES + 16 * record.values):
        if data is None:
            yield "its checksum is wrong", None
            continue
        try:
            features = _protobuf.example(memoryview(data))
            columns = columns or tuple(sorted(name for name in features if name != label))
            text = _label(features[label]) if label is not None else None
            yield _values(features, columns, record), text
        except KeyError as error:
            yield f"no feature is called {error}", None
        except ValueError as error:
            yield f"no tf.train.Example ({str(error)[:80]})", None


def _frames(stream: IO[bytes], limit: int) -> Iterator[bytes | None]:
    """The bytes of each record; None where they do not have the checksum that goes with them."""
    row = 0
    while head := stream.read(12):
        if len(head) < 12:
            raise EOFError("it is cut")
        length, mark = struct.unpack("<QI", head)
        if mark != masked_crc(head[:8]):
            raise ValueError("the checksum of a length is wrong")
        if length > limit:
            raise ValueError(f"a record of {length} bytes; at most {limit} are taken")
        data, tail = stream.read(length), stream.read(4)
        if len(data) < length or len(tail) < 4:
            raise EOFError("it is cut")
        yield data if struct.unpack("<I", tail)[0] == masked_crc(data) else None
        row += 1
    if not row:
        raise EOFError("it is empty")


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated by 15 bits and with a constant added, as TFRecord has it."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _label(values: list[bytes] | NDArray[np.generic]) -> str | None:
    if len(values) > 1:
        raise ValueError("it has several labels")
    if not len(values):
        return None
    return values[0].decode() if isinstance(values, list) else str(values[0])


def _values(
    features: dict[str, list[bytes] | NDArray[np.generic]], columns: tuple[str, ...], record: Schema
) -> NDArray[np.generic] | str:
    """The numbers of a record, or why there are none."""
    parts: list[NDArray[np.generic]] = []
    for name in columns:
        values = features[name]
        if not isinstance(values, list):
            parts.append(values)
            continue
        if len(values) != 1:
            return f"feature {name!r} holds {len(values)} values of bytes where one should be"
        if len(values[0]) == record.values * np.dtype(record.dtype).itemsize:
            parts.append(np.frombuffer(values[0], np.dtype(record.dtype).newbyteorder("<")))
            continue
        from infra.readers import _pictures

        try:
            parts.append(_pictures.decode(values[0], record))
        except _pictures.NoPicture as error:
            return f"feature {name!r}: {error}"
    if not parts:
        return "no feature holds values"
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a feature."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, ...) and perhaps labels, and its schema."""
    with path.open("wb") as file:
        for row, values in enumerate(x):
            frame(file, example({"x": values} | ({} if labels is None else {"label": str(labels[row]).encode()})))
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "label")


def frame(file: IO[bytes], data: bytes) -> None:
    """Write one record of a TFRecord file."""
    head = struct.pack("<Q", len(data))
    file.write(head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data)))


def example(features: dict[str, bytes | NDArray[np.generic]]) -> bytes:
    """The bytes of a `tf.train.Example`: bytes, floats as float32, integers as int64."""
    entries = b""
    for name, values in features.items():
        if isinstance(values, bytes):
            made = _message(1, _message(1, values))
        elif values.dtype.kind == "f":
            made = _message(2, _message(1, values.astype("<f4").tobytes()))
        else:
            made = _message(3, _message(1, b"".join(map(_varint, values.ravel().tolist()))))
        entries += _message(1, _message(1, name.encode()) + _message(2, made))
    return _message(1, entries)


def _message(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
