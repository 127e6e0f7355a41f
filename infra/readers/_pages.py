"""Sizes that a Parquet file's pages declare, read before Arrow trusts them.

Arrow allocates what a page header says, up to 2 GiB a page, before it decompresses. So every page header is
read first: Thrift's compact protocol, of which only three integers matter here. Format:
https://parquet.apache.org/docs/file-format/data-pages/ and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from data_catalog.nouns import Schema

LARGEST_PAGE = 64 << 20  # writers aim at 1 MiB
LONGEST_HEADER = 1 << 16
DEEPEST = 16


def require_sane(path: Path, metadata: Any, record: Schema) -> None:
    """Look at every page header of the file.

    Args:
        path: the file.
        metadata: what `pyarrow.parquet` read of its footer.
        record: a page may hold ten of its records, however large they are.

    Raises:
        ValueError: a page would be larger than any writer makes, or the headers contradict the footer.
    """
    limit = max(LARGEST_PAGE, 10 * 8 * record.values)
    for _ in bodies(path, metadata, limit):
        pass


def bodies(path: Path, metadata: Any, limit: int = LARGEST_PAGE) -> Iterator[tuple[int, int]]:
    """Where each page's bytes lie in the file: first, and one past the last. Arguments and errors as above."""
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for index in range(row_group.num_columns):
                column = row_group.column(index)
                first = column.data_page_offset
                if column.has_dictionary_page and column.dictionary_page_offset is not None:
                    first = min(first, column.dictionary_page_offset)
                if first < 4 or column.total_compressed_size < 0:
                    raise ValueError(f"column {column.path_in_schema!r} lies nowhere")
                yield from _walk(file, first, first + column.total_compressed_size, limit)


def _walk(file: IO[bytes], position: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """The pages between two offsets."""
    while position < end:
        file.seek(position)
        head = file.read(LONGEST_HEADER)
        plain, packed, length = _page(head)
        if not 0 <= plain <= limit or packed < 0:
            raise ValueError(f"a page of {packed} bytes says that it has {plain}; at most {limit} are taken")
        yield position + length, position + length + packed
        position += length + packed
    if position != end:
        raise ValueError("its pages do not end where its footer says")


def _page(head: bytes) -> tuple[int, int, int]:
    """A page's size in memory, its size in the file, and the length of its header."""
    try:
        fields, position = _struct(head, 0, 0)
        return int(fields[2]), int(fields[3]), position
    except (IndexError, KeyError) as error:
        raise ValueError("a page has no header") from error


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a page header has an endless number")


def _struct(data: bytes, position: int, depth: int) -> tuple[dict[int, int], int]:
    """The integers of a Thrift struct by field number, and where it ends; all else is skipped."""
    if depth > DEEPEST:
        raise ValueError("a page header is too deep")
    fields: dict[int, int] = {}
    number = 0
    while kind := data[position]:
        position += 1
        if kind >> 4:
            number += kind >> 4
        else:
            raw, position = _varint(data, position)
            number = (raw >> 1) ^ -(raw & 1)
        value, position = _value(data, position, kind & 0x0F, depth)
        fields[number] = value
    return fields, position + 1


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[int, int]:
    """One value: an integer as it is, 0 for anything else; and where it ends."""
    if kind in {1, 2}:  # true and false are in the kind
        return 2 - kind, position
    if kind == 3:
        return data[position], position + 1
    if kind in {4, 5, 6}:
        raw, position = _varint(data, position)
        return (raw >> 1) ^ -(raw & 1), position
    if kind == 7:
        return 0, position + 8
    if kind == 8:
        length, position = _varint(data, position)
        return 0, position + length
    if kind in {9, 10}:
        size, inner = data[position] >> 4, data[position] & 0x0F
        position += 1
        if size == 15:
            size, position = _varint(data, position)
        if size > LONGEST_HEADER:
            raise ValueError("a page header has too long a list")
        for _ in range(size):
            _, position = (0, position + 1) if inner in {1, 2} else _value(data, position, inner, depth + 1)
        return 0, position
    if kind == 12:
        _, position = _struct(data, position, depth + 1)
        return 0, position
    raise ValueError("a page header has a field of no known kind")
