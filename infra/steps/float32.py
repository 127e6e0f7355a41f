"""Convert without quantising: what a `.tflite` gains by itself, and the form for nets that bear no quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.steps._conversion import converted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.recipes import TrainingData
    from infra.steps import Candidate

VERSION = 1
STAGE = "convert"
SETTINGS: Mapping[str, float | int | str] = {}


def apply(candidate: Candidate, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any) -> Candidate:
    """The candidate with a `.tflite` of float32 weights and activations."""
    return converted(candidate, data, "float32", lambda tf, converter: None)
