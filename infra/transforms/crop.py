"""Cut a rectangle out of every image, from the middle unless told where."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
EXAMPLE = {"height": 5, "width": 4}
EXAMPLE_SHAPE = (8, 8, 1)


def apply(
    x: NDArray[np.generic], *, height: int, width: int, top: int | None = None, left: int | None = None
) -> NDArray[np.generic]:
    """(n, h, w, ...) to (n, height, width, ...), values untouched.

    Args:
        x: images.
        height: of the rectangle, in pixels.
        width: likewise.
        top: its first line; None: it lies in the middle, the odd line below.
        left: its first column, likewise.

    Raises:
        ValueError: no images, or the rectangle does not lie inside them.
    """
    if x.ndim < 3:
        raise ValueError(f"needs images (height, width, ...), not records of shape {x.shape[1:]}")
    top = (x.shape[1] - height) // 2 if top is None else top
    left = (x.shape[2] - width) // 2 if left is None else left
    if min(height, width) < 1 or min(top, left) < 0 or top + height > x.shape[1] or left + width > x.shape[2]:
        raise ValueError(f"{height} x {width} at ({top}, {left}) does not lie in {x.shape[1]} x {x.shape[2]}")
    return x[:, top : top + height, left : left + width]
