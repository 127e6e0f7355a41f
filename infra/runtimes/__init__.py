"""Runtimes: what executes a variant. A runtime is a module here with two functions.

The contract: `load(model, batch)` returns a predictor that maps (n, *shape) records of the variant's dtype
to (n, classes) float32 logits for any n, the answer for a row independent of its neighbours; it is used by
one thread at a time (load one a thread) and raises `ModelRefused` for bytes it cannot run. `version()` is
what the card records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Predictor = Callable[[NDArray[np.generic]], NDArray[np.float32]]


class Runtime(Protocol):
    """What a runtime module offers."""

    def load(self, model: bytes, batch: int) -> Predictor:
        """A predictor that works in batches of `batch` rows."""
        ...

    def version(self) -> str:
        """The runtime's version."""
        ...


RUNTIMES: Registry[Runtime] = Registry(__name__, "runtime")
