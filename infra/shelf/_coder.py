"""A range coder of bits with adaptive probabilities, and blobs for what would take it too long.

`Encoder` and `Decoder` have the same methods with the same arguments, so one function describes a format in both
directions: what the encoder is given, the decoder gives back, and what it is given there is not looked at. The coder is
the carryless one of lpaq (M. Mahoney, Data Compression Explained, section 3.1); a probability moves by 1 / (n + 1.6) at its
n-th bit (nearly Krichevsky and Trofimov's estimator), by 1 / 256 in the end.
"""

from __future__ import annotations

import lzma
from functools import lru_cache
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE = 1 << 22  # a probability, of a bit that is 1, has 22 bits
RATES = [int((1 << 16) / (n + 1.6)) for n in range(255)]
TOP, MASK = 0xFF000000, 0xFFFFFFFF
MOST_DECISIONS = 1 << 20  # of one object: about a second
LONGEST = 40  # bits of a number
RAW, ZSTD, LZMA = 0, 1, 2
LEVEL = 19
LARGEST_WINDOW = 27  # log2 of bytes


class Model:
    """Probabilities of a tree's nodes, and how often each was seen."""

    __slots__ = ("chances", "seen")

    def __init__(self, nodes: int) -> None:
        self.chances = [ONE >> 1] * nodes
        self.seen = [0] * nodes


class _Coder:
    """How symbols and numbers are made of bits, in both directions."""

    def __init__(self) -> None:
        self.low, self.high, self.decisions = 0, MASK, 0

    def bit(self, model: Model, node: int, bit: int) -> int:
        """One decision under the probability of a node."""
        raise NotImplementedError

    def symbols(self, values: Sequence[int], count: int, depth: int) -> list[int]:
        """`count` values of `depth` bits each, their distribution learnt."""
        self.spend(count * depth)
        model, bit, found = Model(1 << depth), self.bit, []
        shifts = range(depth - 1, -1, -1)
        for i in range(count):
            value, node = (values[i] if values else 0), 1
            for shift in shifts:
                node = node << 1 | bit(model, node, value >> shift & 1)
            found.append(node - (1 << depth))
        return found

    def numbers(self, values: Sequence[int], count: int) -> list[int]:
        """`count` numbers of 0 or more, mostly small ones, their distribution learnt.

        Elias's gamma code: how many bits, in unary, then the bits, of which the first three have probabilities of their
        own for each prefix, the others for each place.
        """
        model, bit, found = Model(LONGEST * (LONGEST + 9)), self.bit, []
        for i in range(count):
            value, length = (values[i] + 1 if values else 1), 0
            while bit(model, length, int(value >> length > 1)):
                length += 1
                if length == LONGEST:
                    raise ValueError("a number is too large")
            self.spend(2 * length + 1)
            node, base = 1, LONGEST + length * (LONGEST + 8)
            for shift in range(length - 1, -1, -1):
                node = node << 1 | bit(model, base + (node if node < 8 else 8 + shift), value >> shift & 1)
            found.append(node - 1)
        return found

    def number(self, value: int) -> int:
        """One number."""
        return self.numbers((value,), 1)[0]

    def choice(self, value: int, depth: int) -> int:
        """A value of `depth` bits, all alike."""
        return self.symbols((value,), 1, depth)[0]

    def spend(self, decisions: int) -> None:
        """Count decisions; ValueError for more than an object may have."""
        self.decisions += decisions
        if self.decisions > MOST_DECISIONS:
            raise ValueError("it would take too long")

    def tail(self) -> bytes:
        """The fewest bytes that say a number between low and high, whatever follows them."""
        for count in range(4):
            free = 32 - 8 * count
            first = (self.low + (1 << free) - 1) >> free
            if (first << free | (1 << free) - 1) <= self.high:
                return first.to_bytes(count, "big")
        return self.low.to_bytes(4, "big")


class Encoder(_Coder):
    """Takes values, and gives bytes: the coded ones, then the blobs, the last one first."""

    def __init__(self, decisions: int = 0) -> None:
        """Begin with so many decisions spent."""
        super().__init__()
        self.decisions = decisions
        self.coded, self.blobs = bytearray(), list[bytes]()

    def bit(self, model: Model, node: int, bit: int) -> int:
        """One decision under the probability of a node."""
        chances, seen = model.chances, model.seen
        chance, n = chances[node], seen[node]
        low, high = self.low, self.high
        middle = low + ((high - low) * chance >> 22)
        if bit:
            high = middle
            chances[node] = chance + ((ONE - chance) * RATES[n] >> 16)
        else:
            low = middle + 1
            chances[node] = chance - (chance * RATES[n] >> 16)
        if n < 254:
            seen[node] = n + 1
        while not (low ^ high) & TOP:
            self.coded.append(high >> 24)
            low = low << 8 & MASK
            high = high << 8 & MASK | 255
        self.low, self.high = low, high
        return bit

    def blob(self, data: bytes, size: int, prefix: bytes = b"") -> bytes:
        """`size` bytes, stored in the smallest of three ways; like `prefix`, perhaps, which the decoder has too."""
        way, packed = _smallest(data, prefix)
        self.choice(way, 2)
        if way:
            self.number(len(packed))
        self.blobs.append(packed)
        return data

    def blob_size(self, data: bytes) -> int:
        """Bytes that a blob would take."""
        return len(_smallest(data, b"")[1])

    def size(self) -> int:
        """Bytes so far."""
        return len(self.coded) + sum(map(len, self.blobs)) + 2

    def finish(self) -> bytes:
        """All bytes."""
        return bytes(self.coded) + self.tail() + b"".join(reversed(self.blobs))


class Decoder(_Coder):
    """Takes the bytes of an `Encoder`, and gives its values; a ValueError where they are damaged."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data, self.at, self.end = data + bytes(4), 4, len(data)
        self.code = int.from_bytes(self.data[:4], "big")

    def bit(self, model: Model, node: int, bit: int) -> int:
        """One decision under the probability of a node."""
        chances, seen = model.chances, model.seen
        chance, n = chances[node], seen[node]
        low, high = self.low, self.high
        middle = low + ((high - low) * chance >> 22)
        if self.code <= middle:
            bit, high = 1, middle
            chances[node] = chance + ((ONE - chance) * RATES[n] >> 16)
        else:
            bit, low = 0, middle + 1
            chances[node] = chance - (chance * RATES[n] >> 16)
        if n < 254:
            seen[node] = n + 1
        while not (low ^ high) & TOP:
            if self.at >= len(self.data):
                raise ValueError("it ends too early")
            low = low << 8 & MASK
            high = high << 8 & MASK | 255
            self.code = self.code << 8 & MASK | self.data[self.at]
            self.at += 1
        self.low, self.high = low, high
        return bit

    def blob(self, data: bytes, size: int, prefix: bytes = b"") -> bytes:
        """The next blob, of `size` bytes once unpacked."""
        way = self.choice(0, 2)
        length = self.number(0) if way else size
        if way > LZMA or not 0 <= length <= self.end:
            raise ValueError("a part of it does not lie in it")
        self.end -= length
        packed = self.data[self.end : self.end + length]
        if way == ZSTD:
            return unzstd(packed, size, prefix)
        return _unlzma(packed, size) if way == LZMA else packed

    def finish(self) -> None:
        """Check that all was read: a ValueError for bytes that belong to nothing."""
        coded, tail = self.at - 4, self.tail()
        if self.end != coded + len(tail) or self.data[coded : self.end] != tail:
            raise ValueError("it has another end than its content")


@lru_cache(maxsize=8)
def _smallest(data: bytes, prefix: bytes) -> tuple[int, bytes]:
    ways = {RAW: data, ZSTD: zstd(data, prefix), LZMA: to_lzma(data)}
    way = min(ways, key=lambda way: len(ways[way]) + 2 * bool(way))
    return way, ways[way]


def _filters(size: int) -> list[dict[str, int]]:
    window = 1 << min(LARGEST_WINDOW, max(12, size.bit_length()))
    return [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": window}]


def zstd(data: bytes, prefix: bytes = b"") -> bytes:
    """One frame of Zstandard without magic number, size and checksum, which the frame around it has."""
    size = len(data) + len(prefix)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=size, window_log=min(LARGEST_WINDOW, max(10, size.bit_length())), enable_ldm=True,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False, write_dict_id=False,
    )  # fmt: skip
    return zstandard.ZstdCompressor(dict_data=_raw(prefix), compression_params=parameters).compress(data)


def unzstd(packed: bytes, size: int, prefix: bytes = b"") -> bytes:
    """The `size` bytes of such a frame; ValueError if it is damaged or of another size."""
    if not size and packed != zstd(b"", prefix):  # of an empty frame the library reads the header only
        raise ValueError("not the frame of no bytes")
    if packed[:1] != b"\0":  # a header that declares a size would be believed, and the memory allocated
        raise ValueError("a frame of another kind")
    unpacker = zstandard.ZstdDecompressor(
        dict_data=_raw(prefix), format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=1 << LARGEST_WINDOW
    )
    try:
        plain = unpacker.decompress(packed, max_output_size=max(1, size), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return _exactly(plain, size)


def to_lzma(data: bytes) -> bytes:
    """A raw stream of LZMA, its literals without context: for numbers better than with."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=_filters(len(data)))


def _unlzma(packed: bytes, size: int) -> bytes:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(size))
    try:
        plain = unpacker.decompress(packed, size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(str(error)) from error
    return _exactly(plain, size)


def _raw(prefix: bytes) -> zstandard.ZstdCompressionDict | None:
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None


def _exactly(plain: bytes, size: int) -> bytes:
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes where {size} were promised")
    return plain
