"""Pictures that resemble chest radiographs, in MedMNIST's layout: without finding, or with an opacity in a lung.

64 x 64 grey pixels as in MedMNIST+ (J. Yang et al., MedMNIST v2, 2023): arrays `train_images`, `train_labels`,
`val_...` and `test_...` in one `.npz`; labels are 0 (normal) and 1 (pneumonia), as in PneumoniaMNIST. A picture is a
body, two dark lungs, ribs, spine, heart, and noise; a finding is one to three soft bright spots inside a lung, some
of them faint. They are drawings: no conclusion about patients can be drawn from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".npz"
SIDE = 64
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
BLOCK = 500


def write(path: Path, rows: int, seed: int) -> None:
    """`rows` pictures (n, 64, 64) uint8 and labels (n, 1) uint8, over the layout's three parts."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows).astype(np.uint8)
    images = np.concatenate([pictures(labels[start : start + BLOCK], random) for start in range(0, rows, BLOCK)])
    cuts = [0, int(rows * SHARES["train"]), int(rows * (SHARES["train"] + SHARES["val"])), rows]
    arrays: dict[str, Any] = {}
    for part, first, end in zip(SHARES, cuts[:-1], cuts[1:], strict=True):
        arrays |= {f"{part}_images": images[first:end], f"{part}_labels": labels[first:end, None]}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def pictures(labels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """(n, 64, 64): one picture for each label."""
    count = len(labels)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE

    def each(low: float, high: float) -> NDArray[np.float32]:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def blob(cy: Any, cx: Any, ry: Any, rx: Any, edge: float) -> NDArray[np.float32]:
        """About 1 inside an ellipse, 0 outside, soft over `edge` of its radius."""
        inside = 1 - ((y - cy) / ry) ** 2 - ((x - cx) / rx) ** 2
        soft: NDArray[np.float32] = np.clip(inside / edge + 0.5, 0, 1)
        return soft

    middle, height = each(0.47, 0.53), each(0.44, 0.54)
    image = 0.12 + 0.5 * blob(0.6, middle, 0.7, each(0.42, 0.5), 0.5)
    lungs = np.zeros_like(image)
    centres, radii = [], []
    for sign in (-1, 1):
        centre, radius = middle + sign * each(0.18, 0.22), (each(0.27, 0.33), each(0.12, 0.15))
        lungs = np.maximum(lungs, blob(height, centre, *radius, 0.4))
        centres.append(centre)
        radii.append(radius)
    image -= each(0.26, 0.36) * lungs
    image += each(0.02, 0.05) * np.sin(2 * np.pi * (each(7, 9) * y + each(0, 1) + 1.5 * (x - middle) ** 2))
    image += 0.18 * np.exp(-(((x - middle) / 0.04) ** 2)) + 0.2 * blob(height + 0.16, middle + 0.07, 0.16, 0.13, 0.5)
    for spot in range(3):
        ill = (labels[:, None, None] == 1) & (each(0, 1) < (1.0, 0.6, 0.3)[spot])
        left = each(0, 1) < 0.5
        cx = np.where(left, centres[0], centres[1]) + each(-0.06, 0.06)
        cy = height + each(-0.16, 0.2)
        image += (
            ill
            * each(0.07, 0.3)
            * lungs
            * np.exp(-(((x - cx) / each(0.05, 0.1)) ** 2 + ((y - cy) / each(0.05, 0.12)) ** 2))
        )
    image = image * each(0.85, 1.15) + each(-0.05, 0.05) + random.normal(0, 0.025, image.shape)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
