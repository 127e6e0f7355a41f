"""Runtimes: what executes a variant. A runtime is a module here with two functions.

The contract: `load(model, batch)` returns a predictor that maps (n, *shape) records of the variant's dtype
to (n, classes) float32 logits for any n, the answer for a row independent of its neighbours; it is used by
one thread at a time (load one a thread) and raises `ModelRefused` for bytes it cannot run. `version()` is
what the card records. `FORMAT` names the files that it reads: a variant made for one runtime may be given to another
of the same format, which is tried at the site before it is relied on. `RELEASE` is there, and true, where `version()`
is a version of TensorFlow Lite itself, so that a card's `lowest_runtime` can be compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infra.registry import Registry

Predictor = Callable[[NDArray[np.generic]], NDArray[np.float32]]


class Runtime(Protocol):
    """What a runtime module offers."""

    FORMAT: str

    def load(self, model: bytes, batch: int) -> Predictor:
        """A predictor that works in batches of `batch` rows."""
        ...

    def version(self) -> str:
        """The runtime's version."""
        ...


RUNTIMES: Registry[Runtime] = Registry(__name__, "runtime")


def format_of(runtime: str) -> str:
    """What files a runtime reads; a runtime that does not say reads files of its own."""
    return str(getattr(RUNTIMES.get(runtime), "FORMAT", runtime))
