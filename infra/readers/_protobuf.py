"""`tf.train.Example` from its bytes: the wire format of Protocol Buffers, as far as this message needs it.

Format: https://protobuf.dev/programming-guides/encoding/ and tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MANY_FEATURES = 10_000

Feature = "list[bytes] | NDArray[np.generic]"


def example(data: memoryview) -> dict[str, list[bytes] | NDArray[np.generic]]:
    """The features of a `tf.train.Example`: bytes as a list, floats as float32 (n,), integers as int64 (n,).

    Raises:
        ValueError: the bytes are no such message.
    """
    found: dict[str, list[bytes] | NDArray[np.generic]] = {}
    for features in _of(data, 1):
        for entry in _of(features, 1):
            name = b"".join(bytes(part) for part in _of(entry, 1)).decode()  # UnicodeDecodeError is a ValueError
            if len(found) > MANY_FEATURES:
                raise ValueError("too many features")
            found[name] = _feature(entry)
    return found


def _feature(entry: memoryview) -> list[bytes] | NDArray[np.generic]:
    for feature in _of(entry, 2):
        for number, _, value in _fields(feature):
            if not isinstance(value, memoryview) or number not in {1, 2, 3}:
                continue
            if number == 1:
                return [bytes(item) for item in _of(value, 1)]
            return _floats(value) if number == 2 else _integers(value)
    return []


def _of(data: memoryview, number: int) -> list[memoryview]:
    """The length-delimited fields of one number."""
    return [value for found, _, value in _fields(data) if found == number and isinstance(value, memoryview)]


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Number, wire type and value of every field."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: memoryview | int
        if kind == VARINT:
            value, position = _varint(data, position)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == BYTES:
                length, position = _varint(data, position)
            if length is None or length > len(data) - position:
                raise ValueError("a field is longer than its message, or of no known kind")
            value, position = data[position : position + length], position + length
        yield key >> 3, kind, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is cut or endless")


def _floats(data: memoryview) -> NDArray[np.generic]:
    """A FloatList, packed or not."""
    parts = [bytes(value) for number, _, value in _fields(data) if number == 1 and isinstance(value, memoryview)]
    return np.frombuffer(b"".join(parts), "<f4")  # ValueError if a number is cut


def _integers(data: memoryview) -> NDArray[np.generic]:
    """An Int64List, packed or not."""
    parts = []
    for number, _, value in _fields(data):
        if number == 1:
            parts.append(_packed(value) if isinstance(value, memoryview) else np.array([value], np.uint64).view("<i8"))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _packed(data: memoryview) -> NDArray[np.int64]:
    """Varints one after the other, all decoded at once."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise ValueError("a number is cut")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if len(ends) and int((ends - starts).max()) > 9:
        raise ValueError("a number is endless")
    shifts = 7 * (np.arange(len(raw)) - np.repeat(starts, ends - starts + 1))
    bits = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(bits, starts).view(np.int64) if len(ends) else np.empty(0, np.int64)
