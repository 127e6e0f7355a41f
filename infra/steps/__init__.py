"""Steps of model compression: a step is a module here with one function; TensorFlow is imported inside.

The contract: `apply(candidate, data, settings, seed, teacher)` returns a new `Candidate` and leaves the one that it
got as it was. A step trains on `data.train` alone, may use `data.calibration` for quantisation ranges, and sees no
other split. Steps that change weights or architecture work on `keras`; a converting step ends the recipe and fills
`model`. The model owns its scaling: it takes records as they lie in the shards and gives logits. `VERSION` is raised
whenever a step's output changes, and `SETTINGS` names its settings with their defaults. A step may also have `STAGE`,
one of `STAGES`, which says where in a recipe it belongs, and `CHOICES`: by setting, the values that it may have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from data_catalog.errors import CatalogError, UnknownName
from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData

# In the order in which a recipe has them: what comes later keeps what was done before, the other way it is lost.
STAGES = ("rebuild", "fold", "prune", "share", "quantise", "convert")


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


def settings_of(step: str, given: Mapping[str, Any], where: str = "") -> dict[str, float | int | str]:
    """A step's settings: those given, of the right type, and the defaults of the others.

    Args:
        step: its name.
        given: by name, as in a recipe.
        where: which file names them, for the error.

    Raises:
        UnknownName: there is no such step, or it has no such setting.
        CatalogError: a value is of the wrong type, or none of the choices.
    """
    module = STEPS.get(step, where)
    settings: dict[str, float | int | str] = dict(module.SETTINGS)
    place = f"{where}: " if where else ""
    for name, value in given.items():
        if name not in settings:
            raise UnknownName.among(f"setting of step {step}", name, settings, where)
        default = settings[name]
        wanted: type | tuple[type, ...] = (int, float) if isinstance(default, float) else type(default)
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = {int: "a whole number", float: "a number", str: "a text"}[type(default)]
            raise CatalogError(f"{place}step {step}: `{name}` is {value!r}, not {kind}; write one like {default!r}")
        choices = getattr(module, "CHOICES", {}).get(name)
        if choices and value not in choices:
            raise CatalogError(f"{place}step {step}: `{name}` is {value!r}; write one of {', '.join(choices)}")
        settings[name] = cast("float | int | str", float(cast("float", value)) if isinstance(default, float) else value)
    return settings
