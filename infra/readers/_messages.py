"""Sizes that an Arrow IPC stream declares, read before Arrow trusts them.

Each compressed buffer begins with the size that it will have, which Arrow allocates before it decompresses.
So the metadata of every record batch is read first, as far as that needs: FlatBuffers, of which only the
buffers' places and the compression matter here. Format:
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_catalog.nouns import Schema

LARGEST_BATCH = 256 << 20  # in memory, where it is compressed
END = b"\xff\xff\xff\xff\0\0\0\0"
RECORD_BATCH, DICTIONARY_BATCH = 3, 2  # MessageHeader of Message.fbs


def require_sane(mapped: Any, start: int, record: Schema) -> None:
    """Look at the metadata of every message.

    Args:
        mapped: a memory map of the file.
        start: where the stream begins.
        record: what a row should hold.

    Raises:
        ValueError: a batch would take more memory than any writer gives one, or the end mark is missing.
    """
    size = mapped.size()
    position = start
    while position < size:
        mapped.seek(position)
        head = mapped.read(8)
        if head == END:
            return
        mark, length = struct.unpack("<Ii", head)
        if mark != 0xFFFFFFFF:
            raise ValueError("a message does not begin where one should")
        if not 0 < length <= size - position - 8:
            raise ValueError("a message is longer than the file")
        metadata = mapped.read(length)
        body_length, buffers, compressed = _message(metadata)
        body = position + 8 + length
        if not 0 <= body_length <= size - body:
            raise ValueError("a message's body is longer than the file")
        if compressed:
            total = 0
            for offset, stored in buffers:
                if stored < 8:
                    continue
                if not 0 <= offset <= body_length - 8:
                    raise ValueError("a buffer lies outside its message")
                mapped.seek(body + offset)
                plain = int.from_bytes(mapped.read(8), "little", signed=True)
                total += stored if plain == -1 else plain
                if plain < -1 or total > max(LARGEST_BATCH, 64 * record.values):
                    raise ValueError(
                        f"a batch of {body_length} bytes says that it has {total} or more; write smaller ones"
                    )
        position = body + body_length
    raise ValueError("it is cut: its end-of-stream mark is missing")


def _message(data: bytes) -> tuple[int, list[tuple[int, int]], bool]:
    """The length of a message's body, the places of its buffers in it, and whether they are compressed."""
    try:
        message = _Table(data, struct.unpack_from("<I", data)[0])
        kind, body_length = message.number(1, "<B"), message.number(3, "<q")
        header = message.table(2)
        if header is not None and kind == DICTIONARY_BATCH:
            header = header.table(1)
        if header is None or kind not in {RECORD_BATCH, DICTIONARY_BATCH}:
            return body_length, [], False
        return body_length, header.pairs(2), header.table(3) is not None
    except struct.error as error:
        raise ValueError("a message's metadata are cut") from error


class _Table:
    """A table of FlatBuffers: fields by their number in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        vtable = position - struct.unpack_from("<i", data, position)[0]
        if vtable < 0:
            raise ValueError("a message's metadata point outside it")
        (length,) = struct.unpack_from("<H", data, vtable)
        self._fields = struct.unpack_from(f"<{max(0, length - 4) // 2}H", data, vtable + 4)

    def _place(self, field: int) -> int:
        """Where a field lies; 0: it is left out."""
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        place = self._place(field)
        return int(struct.unpack_from(kind, self._data, place)[0]) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0]) if place else None

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        place = self._place(field)
        if not place:
            return []
        start = place + struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, start)
        if count * 16 > len(self._data):
            raise ValueError("a message's metadata are cut")
        numbers = struct.unpack_from(f"<{2 * count}q", self._data, start + 4)
        return list(zip(numbers[::2], numbers[1::2], strict=True))
