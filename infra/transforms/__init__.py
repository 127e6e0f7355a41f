"""Transforms: one preprocessing step, run where the data is born. A module here with one function.

The contract: `apply(x, **settings)` takes records of shape (n, ...) and returns an array with the same
first axis; it is pure, works row by row (the answer for a row does not depend on its neighbours), and
raises `ValueError` for settings it cannot use. `VERSION` is raised whenever the output changes: it is part
of the preprocessing digest, hence of every result's name.

Scaling belongs into the model (a Rescaling layer), so that shards keep the smallest dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TransformPlugin(Protocol):
    """What a transform module offers."""

    VERSION: int
    EXAMPLE: dict[str, Any]  # settings that suit an input of shape (n, 64), uint8: the conformance suite uses them

    def apply(self, x: NDArray[np.generic], **settings: Any) -> NDArray[np.generic]:
        """The transformed records."""
        ...


TRANSFORMS: Registry[TransformPlugin] = Registry(__name__, "transform")
