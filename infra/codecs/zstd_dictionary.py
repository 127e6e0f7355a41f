"""Zstandard, each record a frame of its own, with a dictionary trained on them (RFC 8878, section 5).

For records of some dozen bytes to some kilobytes that must be readable one by one. The dictionary lies in the object, so
that an object needs no other: a run that reads a few shards would fetch a dictionary for each shard set. A
shard in one frame is smaller still, because there every record is the dictionary of the next (`docs/benchmarks.md`).
"""

from __future__ import annotations

import struct

import zstandard

from infra.codecs import Tensor, _zstandard
from infra.codecs._frame import LENGTH, describe, described, exactly, refusing, seal, unseal

LEVEL = 3
BLOCK = 1024  # bytes of what is no record
SHORTEST, LONGEST = 16, 64 << 10  # bytes of a record that has a frame of its own
LARGEST_DICTIONARY = 16 << 10
SHARE = 32  # the dictionary is at most this part of the data
SAMPLES = 100  # times the dictionary's size is what it is trained on
LEAST_DICTIONARY = 512


def compress(data: bytes, tensor: Tensor | None = None) -> bytes:
    """A frame of dictionary and records, or of the bytes where a dictionary cannot be trained."""
    tensor = tensor if tensor and tensor.lies_in(len(data)) else Tensor(0, (len(data) // BLOCK, BLOCK), "uint8")
    record = tensor.bytes // max(1, tensor.shape[0])
    dictionary = _train(data, tensor, record) if SHORTEST <= record <= LONGEST else b""
    if not dictionary:
        return seal(len(data), describe(None), _zstandard.pack(data, LEVEL))
    end = tensor.start + tensor.bytes
    packer = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(dictionary),
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            LEVEL, source_size=record, dict_size=len(dictionary), format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=False, write_dict_id=False,
        ),
    )  # fmt: skip
    frames = [packer.compress(data[first : first + record]) for first in range(tensor.start, end, record)]
    lengths = struct.pack(f"<{len(frames)}I", *map(len, frames))
    parts = [_zstandard.pack(part, LEVEL) for part in (dictionary, lengths, data[: tensor.start] + data[end:])]
    head = LENGTH.pack(len(dictionary)) + b"".join(LENGTH.pack(len(part)) for part in parts)
    return seal(len(data), describe(tensor), head, *parts, *frames)


def decompress(data: bytes, size: int) -> bytes:
    """The original bytes; ValueError if the frame is damaged or of another size."""
    tensor, body = described(unseal(data, size), size)
    if tensor is None:
        return _zstandard.unpack(body, size)
    record = tensor.bytes // tensor.shape[0]
    with refusing(struct.error, zstandard.ZstdError):
        length, *packed = struct.unpack_from("<4I", body)
        if length > LARGEST_DICTIONARY:
            raise ValueError("the frame's dictionary is too large")
        position, parts = struct.calcsize("<4I"), []
        plain_sizes = (length, 4 * tensor.shape[0], size - tensor.bytes)
        for packed_size, plain_size in zip(packed, plain_sizes, strict=True):
            parts.append(_zstandard.unpack(body[position : position + packed_size], plain_size))
            position += packed_size
        dictionary, lengths, rest = parts
        unpacker = zstandard.ZstdDecompressor(
            dict_data=zstandard.ZstdCompressionDict(dictionary), format=zstandard.FORMAT_ZSTD1_MAGICLESS
        )
        records = []
        for frame in struct.unpack(f"<{tensor.shape[0]}I", lengths):
            records.append(unpacker.decompress(body[position : position + frame], max_output_size=record))
            position += frame
    return exactly(rest[: tensor.start] + b"".join(records) + rest[tensor.start :], size)


def _train(data: bytes, tensor: Tensor, record: int) -> bytes:
    """A dictionary for the records, from some of them all over the tensor; none if there are too few."""
    wanted = min(LARGEST_DICTIONARY, tensor.bytes // SHARE)
    if wanted < LEAST_DICTIONARY:
        return b""
    step = max(1, tensor.bytes // (SAMPLES * wanted))
    starts = range(tensor.start, tensor.start + tensor.bytes, step * record)
    try:
        trained = zstandard.train_dictionary(
            wanted, [data[first : first + record] for first in starts], k=64, d=8, level=LEVEL
        )
    except zstandard.ZstdError:  # too few, or nothing in common
        return b""
    return bytes(trained.as_bytes())
