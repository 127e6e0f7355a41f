"""Codecs: bytes to fewer bytes and back. A codec is a module here with two functions.

The contract:

- `decompress(compress(data, tensor), size=len(data)) == data` for every `bytes`, the empty one included, and
  whatever `tensor` says of them: it is a hint where the numbers of a shard lie, for codecs that know numbers or
  images. Without it, or with one that the codec cannot use, it carries the bytes in some other way;
- the object describes itself: `decompress` needs nothing but it and the size;
- `decompress` raises `ValueError` for bytes that `compress` did not make, and for those that would give
  more or less than `size` bytes; it never allocates much more than `size`;
- both are pure, safe in threads, work on the calling thread (shards are packed side by side, and trials count this
  thread's time), and should release the GIL while they work.

A codec whose format has neither size nor checksum wraps it in `infra.codecs._frame`.
`infra.testing.codec_suite` checks all of it for every file in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

from infra.registry import Registry

ITEM_BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "float32": 4, "float64": 8}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where numbers lie in some bytes: C order, little-endian.

    Attributes:
        start: position of the first byte.
        shape: (n, ...), the records first.
        dtype: one of `ITEM_BYTES`.
    """

    start: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Length of the numbers in bytes."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]

    def lies_in(self, size: int) -> bool:
        """Whether it describes a part, not an empty one, of `size` bytes."""
        known = self.dtype in ITEM_BYTES and 0 < len(self.shape) <= 8 and all(side > 0 for side in self.shape)
        return known and self.start >= 0 and self.start + self.bytes <= size


class Codec(Protocol):
    """What a codec module offers."""

    def compress(self, data: bytes, tensor: Tensor | None = None) -> bytes:
        """Fewer bytes, if it can."""
        ...

    def decompress(self, data: bytes, size: int) -> bytes:
        """The original `size` bytes; ValueError if `data` is not theirs."""
        ...


CODECS: Registry[Codec] = Registry(__name__, "codec")
