"""How evenly load is shared: Jain's index, and the load-balance factor of the article that the project grew from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def jain(loads: npt.ArrayLike) -> float:
    """Jain's fairness index, from 1/n (one carries all) to 1 (all carry the same); 1 where there is no load.

    R. Jain, D. Chiu, W. Hawe, A quantitative measure of fairness and discrimination, 1984: (sum x)^2 / (n sum x^2).
    """
    x = np.asarray(loads, float)
    top = float(np.abs(x).max(initial=0.0))
    if top == 0:
        return 1.0
    x = x / top
    return float(x.sum() ** 2 / (len(x) * (x @ x)))


def load_factor(devices: float, device_bytes: float, tasks: float, task_bytes: float) -> float:
    """The article's alpha: what all devices hold over what N devices with T sub-tasks of S each would, ND / (NTS).

    Args:
        devices: N.
        device_bytes: D, that each device holds.
        tasks: T, sub-tasks of a device.
        task_bytes: S, that each sub-task handles.

    Raises:
        ValueError: one of them is not positive.
    """
    if min(devices, device_bytes, tasks, task_bytes) <= 0:
        raise ValueError("devices, tasks and their bytes must be positive")
    return (devices * device_bytes) / (devices * tasks * task_bytes)
