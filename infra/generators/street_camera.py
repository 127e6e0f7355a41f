"""Pictures that resemble a street camera's: an empty road, flowing traffic, or a jam, by day and by night.

48 x 64 pixels in colour, in an `.npz` with `images` and `labels`. A camera looks along a road of three lanes that
narrows towards the horizon; cars are boxes with a roof, windows and lights, smaller the farther away; the light
changes through the day, and at night cars are mostly lamps. Cars hide one another, so that a picture can show fewer
than there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".npz"
HEIGHT, WIDTH, HORIZON = 48, 64, 12
STATES = {"free": (0, 2), "flowing": (5, 8), "jam": (14, 22)}  # the least and the most cars


def write(path: Path, rows: int, seed: int) -> None:
    """`images` (n, 48, 64, 3) uint8 and `labels` (n,) of the states."""
    random = np.random.default_rng(seed)
    names = list(STATES)
    labels = np.array([names[i] for i in random.integers(0, len(names), rows)])
    images = np.stack([picture(str(state), random) for state in labels])
    with path.open("wb") as file:
        np.savez(file, images=images, labels=labels)


def picture(state: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """(48, 64, 3): one picture of a state."""
    light = random.uniform(0.3, 1.0)  # of the day
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:HORIZON] = np.array([150, 180, 220]) * light
    image[HORIZON:] = np.array([70, 95, 60]) * light
    depth = (np.arange(HEIGHT) - HORIZON) / (HEIGHT - HORIZON)  # 0 at the horizon, 1 at the camera
    centre = WIDTH / 2 + random.uniform(-5, 5)
    half = 3 + 27 * depth
    columns = np.arange(WIDTH)
    road = (np.abs(columns - centre) < half[:, None]) & (depth[:, None] > 0)
    image[road] = np.array([90, 90, 95]) * light
    for border in (-1 / 3, 1 / 3):
        marks = (np.abs(columns - centre - border * half[:, None]) < 0.3 + depth[:, None]) & road
        image[marks & (np.arange(HEIGHT) % 6 < 3)[:, None]] = 210 * light
    low, high = STATES[state]
    for near in np.sort(random.uniform(0.03, 0.95, int(random.integers(low, high + 1)))):
        _draw_car(image, near, centre, light, random)
    image += random.normal(0, 5, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _draw_car(
    image: NDArray[np.float32], near: float, centre: float, light: float, random: np.random.Generator
) -> None:
    """A car on one of three lanes, `near` of 1 towards the camera."""
    bottom = int(HORIZON + near * (HEIGHT - HORIZON))
    wide = 1.5 + 7.5 * near
    tall = max(1, int(wide * 0.9))
    middle = centre + random.integers(-1, 2) * (3 + 27 * near) * 0.62 + random.uniform(-0.5, 0.5)
    left, right = max(0, round(middle - wide / 2)), max(0, round(middle + wide / 2))
    top = max(0, bottom - tall)
    image[top:bottom, left:right] = random.uniform(30, 235, 3) * light
    image[top : top + tall // 3, left:right] = np.array([40, 50, 60]) * light
    lamp = max(1, tall // 4)
    image[bottom - lamp : bottom, [left % WIDTH, (right - 1) % WIDTH]] = [255, 200 * (1 - light) + 40, 40]
