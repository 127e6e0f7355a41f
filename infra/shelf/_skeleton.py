"""A flatbuffer without its weights, its offsets as they would be if there had been none.

So two files of one architecture have one skeleton, whatever their widths, and those of others look alike. The offsets
are not looked up but guessed: each aligned word that leads forward to a place in the file (or, negative, from a table
to its layout there) is renumbered, places that are left before those that are cut out. That is a permutation of the
words, so a number that was no offset comes back too. The word before an array is its length and stays.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

WORD = struct.Struct("<I")


class _Layout:
    """Where what lies: regions that are cut out of a file of `size` bytes."""

    def __init__(self, size: int, regions: Sequence[tuple[int, int]]) -> None:
        self.size = size
        self.starts = np.array([start for start, _ in regions], np.int64)
        self.ends = np.array([end for _, end in regions], np.int64)
        self.before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])  # bytes cut out before each region
        self.left = size - int(self.before[-1])

    def removed(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many bytes before `at` are cut out."""
        i = np.searchsorted(self.starts, at, "right")
        return self.before[i] - np.maximum(0, np.concatenate([[0], self.ends])[i] - at)

    def words(self) -> NDArray[np.int64]:
        """Where the aligned words lie that may be renumbered."""
        whole = np.ones(self.size + 4, bool)
        whole[self.size & ~3 :] = False
        for start, end in zip(self.starts, self.ends, strict=True):
            whole[start - 4 : end] = False
        return 4 * np.flatnonzero(whole[: self.size & ~3].reshape(-1, 4).all(axis=1)).astype(np.int64)

    def numbered(self, at: NDArray[np.int64], far: NDArray[np.int64]) -> NDArray[np.int64]:
        """Distances from `at`, all within the file, renumbered."""
        i = np.searchsorted(self.starts, at + far, "right")
        cut = (i > 0) & (at + far < np.concatenate([[0], self.ends])[i])
        skipped = self.removed(at + far) - self.removed(at)
        return np.where(cut, self.left - at + self.removed(at) + skipped, far - skipped)

    def distances(self, at: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inverse of `numbered`."""
        here = at - self.removed(at)
        target = here + number
        kept: NDArray[np.int64] = target + self.before[np.searchsorted(self.starts - self.before[:-1], target, "right")]
        rank = np.clip(target - self.left + self.removed(at), 0, None)
        i = np.clip(np.searchsorted(self.before, rank, "right") - 1, 0, max(0, len(self.starts) - 1))
        cut = self.starts[i] + rank - self.before[i] if len(self.starts) else kept
        return np.where(target < self.left, kept, cut).astype(np.int64) - at


def cut(file: bytes, regions: Sequence[tuple[int, int]]) -> bytes:
    """The file without the regions (start, end), which do not touch and have their length in the word before them."""
    layout = _Layout(len(file), regions)
    renumbered = _renumber(bytearray(file), layout, layout.numbered)
    for start, end in reversed(regions):
        del renumbered[start:end]
    return bytes(renumbered)


def join(skeleton: bytes, gaps: Sequence[int], widths: Sequence[int], size: int) -> bytearray:
    """The file of `size` bytes, zeros for its regions; ValueError if these do not fit.

    Args:
        skeleton: what `cut` gave.
        gaps: bytes that were left before each region.
        widths: bytes of a region's items, whose number is in the word before it.
        size: of the file.
    """
    file, regions, at = bytearray(), list[tuple[int, int]](), 0
    for gap, width in zip(gaps, widths, strict=True):
        if gap < WORD.size or at + gap > len(skeleton):
            raise ValueError("an array lies outside the file")
        file += skeleton[at : at + gap]
        at += gap
        length = width * WORD.unpack_from(file, len(file) - WORD.size)[0]
        if len(file) + length > size:
            raise ValueError("an array is larger than the file")
        regions.append((len(file), len(file) + length))
        file += bytes(length)
    file += skeleton[at:]
    if len(file) != size:
        raise ValueError("the skeleton is not that of a file of this size")
    layout = _Layout(size, regions)
    return _renumber(file, layout, layout.distances)


def _renumber(
    file: bytearray, layout: _Layout, how: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
) -> bytearray:
    words = np.frombuffer(file[: len(file) & ~3], "<u4").astype(np.int64)
    at = layout.words()
    value = words[at // 4]
    negative = value >= 1 << 31
    far = np.where(negative, (1 << 32) - value, value)
    inside = far < layout.size - at
    mapped = how(at[inside], far[inside])
    value[inside] = np.where(negative[inside], (1 << 32) - mapped, mapped)
    words[at // 4] = value
    file[: len(file) & ~3] = words.astype("<u4").tobytes()
    return file
