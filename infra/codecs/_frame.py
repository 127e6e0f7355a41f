"""The frame of codecs whose format lacks a size or a checksum; and what they share besides.

    4 bytes  magic number
    8 bytes  size of the plain bytes, little-endian
    4 bytes  CRC-32C (RFC 3720) of the other fields and the body
    the rest is the body

The checksum is of the packed bytes, so damage is found before a decoder sees it, and the size stands in front, so a
bomb is refused before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import google_crc32c

from infra.codecs import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"ceF1"
HEADER = struct.Struct("<4sQI")
LENGTH = struct.Struct("<I")


def seal(size: int, *body: bytes) -> bytes:
    """The frame of a body whose plain bytes are `size` long."""
    whole = b"".join(body)
    return HEADER.pack(MAGIC, size, _checksum(size, whole)) + whole


def unseal(data: bytes, size: int) -> bytes:
    """The body of a frame; ValueError if it is damaged or not of `size` plain bytes."""
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("no such frame")
    _, declared, checksum = HEADER.unpack_from(data)
    if declared != size:
        raise ValueError(f"the frame declares {declared} bytes where {size} were promised")
    body = data[HEADER.size :]
    if _checksum(declared, body) != checksum:
        raise ValueError("the frame's checksum is another")
    return body


def _checksum(size: int, body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(HEADER.pack(MAGIC, size, 0)), body))


def exactly(plain: bytes, size: int) -> bytes:
    """The bytes, if there are `size` of them; else ValueError."""
    if len(plain) != size:
        raise ValueError(f"not the {size} bytes that were promised")
    return plain


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """Turn a decoder's own errors into ValueError."""
    try:
        yield
    except errors as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def describe(tensor: Tensor | None) -> bytes:
    """A tensor's description, to stand in front of a body; None is one too."""
    text = json.dumps([tensor.start, tensor.shape, tensor.dtype]).encode() if tensor else b""
    return LENGTH.pack(len(text)) + text


def described(body: bytes, size: int) -> tuple[Tensor | None, bytes]:
    """The tensor that `describe` put in front of a body, and the rest; ValueError if it does not lie in `size` bytes."""
    with refusing(struct.error, KeyError, TypeError):
        (length,) = LENGTH.unpack_from(body)
        end = LENGTH.size + length
        if not length:
            return None, body[end:]
        start, shape, dtype = json.loads(body[LENGTH.size : end])
        tensor = Tensor(int(start), tuple(int(side) for side in shape), str(dtype))
    if not tensor.lies_in(size):
        raise ValueError("the frame describes a tensor that does not lie in its bytes")
    return tensor, body[end:]
