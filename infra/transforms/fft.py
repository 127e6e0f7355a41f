"""Spectral features: the one-sided discrete Fourier transform of each signal, as magnitude, power or log power."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

VERSION = 1
EXAMPLE = {"window": "hann", "scale": "log", "bands": 7}
FLOOR_DB = -120.0


def apply(
    x: NDArray[np.generic], *, window: str = "none", scale: str = "magnitude", bands: int = 0
) -> NDArray[np.generic]:
    """(n, t) or (n, t, c) to (n, t // 2 + 1[, c]) float32: one value a frequency, from 0 to half the sampling rate.

    With `bands` it is (n, bands[, c]): one value a band of frequencies.

    Args:
        x: signals of t samples.
        window: `hann` weighs the samples by 0.5 - 0.5 cos(2 pi i / t), against leakage; `none` does not.
        scale: `magnitude` is |X|, `power` |X|^2, `log` 10 log10(|X|^2) in decibels, not below -120. X is divided by
            the sum of the weights, so that a constant signal has its own value at frequency 0.
        bands: so many bands of equal width (to one frequency), of each the mean power; 0: every frequency.

    Raises:
        ValueError: no signals, or wrong settings.
    """
    if x.ndim not in (2, 3):
        raise ValueError(f"needs signals (samples) or (samples, channels), not records of shape {x.shape[1:]}")
    if window not in ("none", "hann") or scale not in ("magnitude", "power", "log"):
        raise ValueError(f"no window {window!r} or scale {scale!r}; use none or hann; magnitude, power or log")
    samples = x.shape[1]
    if not 0 <= bands <= samples // 2 + 1:
        raise ValueError(f"cannot make {bands} bands of {samples // 2 + 1} frequencies")
    weights = np.ones(samples)
    if window == "hann" and samples > 1:
        weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    signals = np.moveaxis(x, 1, -1).astype(np.float64) * (weights / weights.sum())
    found = np.fft.rfft(signals, axis=-1) if len(x) else np.zeros((*signals.shape[:-1], samples // 2 + 1), complex)
    power = found.real**2 + found.imag**2
    if bands:
        edges = np.arange(bands + 1) * power.shape[-1] // bands
        power = np.add.reduceat(power, edges[:-1], axis=-1) / np.diff(edges)
    if scale == "magnitude":
        power = np.sqrt(power)
    elif scale == "log":
        power = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
    return np.ascontiguousarray(np.moveaxis(power, -1, 1), np.float32)
