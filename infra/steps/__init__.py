"""Steps of model compression: a step is a module here with one function; TensorFlow is imported inside.

The contract: `apply(candidate, data, settings, seed, teacher)` returns a new `Candidate` and leaves the one that it
got as it was. A step trains on `data.train` alone, may use `data.calibration` for quantisation ranges, and sees no
other split. Steps that change weights or architecture work on `keras`; a converting step ends the recipe and fills
`model`. The model owns its scaling: it takes records as they lie in the shards and gives logits. `VERSION` is raised
whenever a step's output changes, and `SETTINGS` names its settings with their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on its way through a recipe."""

    keras: Any  # a Keras 2 model from (n, *shape) records to (n, classes) logits
    model: bytes = b""  # a `.tflite`, once a step has converted it
    masks: Mapping[str, Any] = field(default_factory=dict)  # by variable: where pruned weights stay zero
    notes: Mapping[str, float] = field(default_factory=dict)  # what steps found, for the card: sparsity, clusters


class Step(Protocol):
    """What a step module offers."""

    VERSION: int
    SETTINGS: Mapping[str, float | int | str]

    def apply(
        self, candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any
    ) -> Candidate:
        """The candidate after the step; `teacher` is a Keras model to distil from, or None."""
        ...


STEPS: Registry[Step] = Registry(__name__, "compression step")
