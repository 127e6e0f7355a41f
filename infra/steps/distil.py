"""Distillation into a smaller student: a new net learns from the labels and from the teacher's softened answers.

G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from infra.recipes import import_tensorflow
from infra.recipes._training import network
from infra.steps._retraining import RETRAINING, retrain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "rebuild"
SETTINGS: Mapping[str, float | int | str] = {
    "filters": "8 16",  # widths of the student's blocks
    "depth": 1,  # convolutions (or dense layers) in a block
    "units": 0,  # width of the dense layer before the logits
    **RETRAINING,
    "epochs": 40,
    "learning_rate": 0.004,
    "turn": 12.0,
    "scale": 0.12,
    "shift": 2.0,
    "hard": 0.1,
}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """A student in the candidate's place, or one trained on the labels alone if there is no teacher.

    Args:
        candidate: what it has learnt so far is not used, beyond what the teacher says.
        data: `train` is used, nothing else.
        settings: those of `SETTINGS`.
        seed: of weights, order and views.
        teacher: a Keras model, or None.
    """
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(seed)
    filters = [int(width) for width in str(settings["filters"]).replace(",", " ").split()]
    shape = data.train.x.shape[1:]
    net = network(shape, filters, int(settings["depth"]), int(settings["units"]), data.classes)
    retrain(net, data, settings, seed, teacher, "distil")
    return replace(candidate, keras=net, masks={}, notes={})
