"""Arrays of numbers as few bits: where they are zero, which values repeat, and which of their bytes are noise.

    opaque   the bytes as they lie
    planes   byte by byte of all items, the highest first; so exponents are together, and mantissas
    codes    a codebook of the values that occur, and for each item its place in it
    sparse   planes or codes of the items that are not zero, and the gaps between those

Weights that were pruned and clustered are sparse codes: their size is the entropy of gaps and codes. Every function here
works in both directions (see `infra/shelf/_coder.py`): it is given the array, or zeros to be told the shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infra.shelf._coder import MOST_DECISIONS, Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.shelf._coder import Decoder

    Coder = Encoder | Decoder
    Numbers = NDArray[np.unsignedinteger[Any]]

OPAQUE, PLANES, CODES = 0, 1, 2
SPARSE = 1 << 2  # and, with one of the three
COLUMNS = 1 << 3  # and column by column instead of row by row
MODE_BITS = 4
MOST_CODES = 256
LARGE = 1 << 20  # items from which on columns are not tried
LEAST_ZEROS = 0.02  # share of zeros from which on an array may be sparse
LEARNT, CONSTANT, APART = 0, 1, 2


def array(coder: Coder, a: Numbers, rows: int) -> Numbers:
    """An array of unsigned integers, which may be the bits of floats.

    Args:
        coder: takes it or gives it.
        a: (n,) the values; zeros of that shape and type where they are read.
        rows: n is a multiple of it: how many rows it has as a matrix.
    """
    modes = coder.choice(_best(coder, a, rows) if isinstance(coder, Encoder) else 0, MODE_BITS)
    return _as(coder, a, rows, modes)


def _as(coder: Coder, a: Numbers, rows: int, mode: int) -> Numbers:
    if mode & COLUMNS:
        turned = _as(coder, a.reshape(rows, -1).T.ravel(), a.size // rows, mode & ~COLUMNS)
        return turned.reshape(-1, rows).T.ravel()
    if not mode & SPARSE:
        return _dense(coder, a, mode)
    places = np.flatnonzero(a)
    count = coder.number(len(places))
    gaps = np.diff(places, prepend=-1) - 1
    places = np.cumsum(np.array(_gaps(coder, gaps, count), np.int64) + 1) - 1
    if count > a.size or (count and places[-1] >= a.size):
        raise ValueError("numbers lie outside their array")
    found = np.zeros_like(a)
    found[places] = _dense(coder, a[places], mode & ~SPARSE)
    return found


def _dense(coder: Coder, a: Numbers, mode: int) -> Numbers:
    if mode == CODES:
        return _codes(coder, a)
    if mode == PLANES:
        return _planes(coder, a)
    if mode == OPAQUE:
        return np.frombuffer(coder.blob(a.tobytes(), a.nbytes), a.dtype)
    raise ValueError("a mode that is unknown")


def _codes(coder: Coder, a: Numbers) -> Numbers:
    book, codes = np.unique(a, return_inverse=True)
    size = coder.choice(len(book) - 1, 8) + 1
    book = _planes(coder, book if len(book) == size else np.zeros(size, a.dtype))
    read = _stream(coder, codes.astype(np.uint8), (size - 1).bit_length())
    if read.size and read.max() >= size:
        raise ValueError("a code is not in its codebook")
    return book[read]


def _planes(coder: Coder, a: Numbers) -> Numbers:
    """The bytes of all items, plane by plane; signs go to the end, so exponents have a byte of their own."""
    bits = 8 * a.itemsize
    one, most = a.dtype.type(1), a.dtype.type(bits - 1)
    turned = (a << one | a >> most) if bits > 8 else a
    found = np.zeros_like(a)
    for shift in range(bits - 8, -8, -8):
        found |= _stream(coder, (turned >> shift & 255).astype(np.uint8), 8).astype(a.dtype) << shift
    return (found >> one | found << most) if bits > 8 else found


def _stream(coder: Coder, values: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Values of `depth` bits: learnt bit by bit, all the same, or as a blob."""
    if not values.size or not depth:
        return np.zeros(values.size, np.uint8)
    way = coder.choice(_way(coder, values, depth) if isinstance(coder, Encoder) else 0, 2)
    if way == CONSTANT:
        return np.full(values.size, coder.choice(int(values[0]), depth), np.uint8)
    if way == APART:
        return np.frombuffer(coder.blob(values.tobytes(), values.size), np.uint8)
    return np.array(coder.symbols(values.tolist(), values.size, depth), np.uint8)


def _way(coder: Encoder, values: NDArray[np.uint8], depth: int) -> int:
    counts = np.bincount(values)
    counts = counts[counts > 0]
    if len(counts) == 1:
        return CONSTANT
    # Entropy, and half the logarithm of their number for each value that is learnt.
    learnt = counts @ np.log2(values.size / counts) + len(counts) * np.log2(values.size) / 2
    affordable = coder.decisions + values.size * depth <= MOST_DECISIONS
    return LEARNT if affordable and learnt / 8 < coder.blob_size(values.tobytes()) else APART


def _gaps(coder: Coder, gaps: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` gaps: learnt as numbers, or as bytes of which 255 says that the gap goes on."""
    lengths = 2 * np.frexp(gaps + 1.0)[1] - 1
    way = coder.choice(int(coder.decisions + lengths.sum() > MOST_DECISIONS), 1)
    if way == LEARNT:
        return np.array(coder.numbers(gaps.tolist(), count), np.int64)
    full = gaps // 255
    ends = np.cumsum(full + 1)
    written = np.full(ends[-1] if len(ends) else 0, 255, np.uint8)
    written[ends - 1] = gaps % 255
    size = coder.number(len(written))
    read = np.frombuffer(coder.blob(written.tobytes(), size), np.uint8)
    ends = np.flatnonzero(read != 255)
    if len(ends) != count or (count and ends[-1] != size - 1):
        raise ValueError("gaps do not end where they should")
    return (255 * (np.diff(ends, prepend=-1) - 1) + read[ends]).astype(np.int64)


def _best(coder: Encoder, a: Numbers, rows: int) -> int:
    """The mode that gives the fewest bytes."""
    zeros = 1 - np.count_nonzero(a) / max(1, a.size)
    modes = [OPAQUE] if a.itemsize > 1 else []
    modes += [CODES] if len(np.unique(a)) <= MOST_CODES and a.itemsize > 1 else []
    modes += [PLANES]
    if zeros > LEAST_ZEROS:
        modes += [SPARSE | PLANES] + [SPARSE | CODES] * (len(np.unique(a[a > 0])) <= MOST_CODES)
    costs = {mode: _cost(coder, a, rows, mode) for mode in modes}
    best = min(costs, key=lambda mode: costs[mode])
    if 1 < rows < a.size and a.size < LARGE and _cost(coder, a, rows, best | COLUMNS) < costs[best]:
        best |= COLUMNS
    return best


def _cost(coder: Encoder, a: Numbers, rows: int, mode: int) -> int:
    trial = Encoder(coder.decisions)
    _as(trial, a, rows, mode)
    return trial.size()


def cost(coder: Encoder, a: Numbers, rows: int) -> int:
    """Bytes that an array would take."""
    return _cost(coder, a, rows, _best(coder, a, rows))


def difference(new: Numbers, old: Numbers) -> Numbers:
    """From old to new, small where they are near, whichever is larger: the sign is the last bit (zigzag)."""
    differ = new - old
    one, most = new.dtype.type(1), new.dtype.type(8 * new.itemsize - 1)
    return differ << one ^ (differ >> most) * ~new.dtype.type(0)


def undo(differ: Numbers, old: Numbers) -> Numbers:
    """The new array of `difference`."""
    one = old.dtype.type(1)
    return old + (differ >> one ^ (differ & one) * ~old.dtype.type(0))
