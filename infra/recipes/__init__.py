"""Recipes: how a variant is made. A recipe is a module here with one function; TensorFlow is imported inside.

The contract: `make(data, settings, seed, teacher)` trains on `data.train` alone, may use `data.calibration`
for quantisation ranges, never sees another split, and returns `Made` with the model's bytes for the
variant's runtime. The model owns its scaling: it takes records as they lie in the shards and gives logits.
With one seed on one machine it makes the same model to within the runtime's determinism.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled records: `x` (n, *shape) as in the shards, `y` (n,) class numbers, `ids` (n,) strings."""

    x: NDArray[np.generic]
    y: NDArray[np.int64]
    ids: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a recipe may look at."""

    train: Examples
    calibration: Examples
    classes: int


@dataclass(frozen=True, slots=True)
class Made:
    """A variant's bytes, the name of its file, and what a recipe that distils from it needs.

    `others` has, by runtime, file name and bytes of the same net for other runtimes: where they run, the faster answers.
    """

    model: bytes
    file: str
    keras: Any
    others: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


class Recipe(Protocol):
    """What a recipe module offers."""

    def make(self, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Made | None) -> Made:
        """Train and convert one variant; `teacher` is the cloud variant, where there is one already."""
        ...


RECIPES: Registry[Recipe] = Registry(__name__, "recipe")


def import_tensorflow() -> Any:
    """TensorFlow with Keras 2, quiet, imported at first use: 4 CPU-seconds and 700 MB nobody pays for nothing."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    return tf


def source_files() -> list[Path]:
    """The recipes' own source files: the code version of every variant made by them."""
    from pathlib import Path

    return sorted(Path(__file__).parent.glob("*.py"))
