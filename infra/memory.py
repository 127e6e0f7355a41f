"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
_LARGE = 8 << 20
_KEPT = 32 << 20


@lru_cache(maxsize=1)
def give_back_large_blocks() -> None:
    """Let every freed block of 8 MiB or more go back to the system at once, where the allocator is glibc's.

    Shards come and go by the hundred through short-lived threads. By default glibc soon takes blocks of their
    size from the heaps that it keeps for its threads, where the remains add up: a site that has answered ten
    times as much then holds half as much memory again. Smaller blocks stay in the heaps, as getting them anew
    would clear them page by page.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _KEPT)
