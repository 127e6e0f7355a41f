"""JPEG (ISO/IEC 10918-1) for images of 8 bits: each is replaced by one that JPEG gives back as it is.

An image goes through JPEG of the quality again and again until nothing changes any more, which natural images
reach in a few rounds. The codec `jpeg` then carries it as a JPEG without further loss, so the shard's digest is of what
every site decodes. An image that does not settle stays as it was, and costs what it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infra.codecs import _jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
DTYPES = ("uint8",)
EXAMPLE = {"quality": 90}
ROUNDS = 16


def apply(x: NDArray[np.generic], quality: int) -> NDArray[np.generic]:
    """The images as JPEG of that quality leaves them.

    Args:
        x: (n, height, width) or (n, height, width, 1 or 3) uint8.
        quality: one of `_jpeg.QUALITIES`, as libjpeg counts: 95 is hardly visible.

    Raises:
        ValueError: the records are no such images, or the quality is another.
    """
    if not _jpeg.usable(x):
        raise ValueError(f"it codes images of uint8 with 1 or 3 channels, not {x.shape[1:]} {x.dtype.name}")
    if quality not in _jpeg.QUALITIES:
        raise ValueError(f"`quality` must be one of {', '.join(map(str, _jpeg.QUALITIES))}, not {quality!r}")
    if not x.size:
        return x
    images = x if x.ndim == 4 else x[..., None]
    settled, moving = images.copy(), np.arange(len(images))
    for _ in range(ROUNDS):
        before = settled[moving]
        after = _jpeg.decode(_jpeg.encode(before, quality), before.shape)
        settled[moving] = after
        moving = moving[(after != before).reshape(len(after), -1).any(axis=1)]
        if not len(moving):
            break
    settled[moving] = images[moving]
    return settled.reshape(x.shape)
