"""Codecs: bytes to fewer bytes and back. A codec is a module here with two functions.

The contract:

- `decompress(compress(data), size=len(data)) == data` for every `bytes`, the empty one included;
- `decompress` raises `ValueError` for bytes that `compress` did not make, and for those that would give
  more or less than `size` bytes; it never allocates much more than `size`;
- both are pure, safe in threads, and should release the GIL while they work.

`infra.testing.codec_suite` checks all of it for every file in this folder.
"""

from __future__ import annotations

from typing import Protocol

from infra.registry import Registry


class Codec(Protocol):
    """What a codec module offers."""

    def compress(self, data: bytes) -> bytes:
        """Fewer bytes, if it can."""
        ...

    def decompress(self, data: bytes, size: int) -> bytes:
        """The original `size` bytes; ValueError if `data` is not theirs."""
        ...


CODECS: Registry[Codec] = Registry(__name__, "codec")
