"""What every compression step must do; see `infra.steps` for the contract.

The net is a small one with batch normalisation, for images of 8 x 8 in three classes: which third is bright.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from data_catalog.errors import CatalogError, UnknownName
from infra.recipes import Examples, TrainingData, import_tensorflow
from infra.recipes._training import network, train
from infra.runtimes import RUNTIMES
from infra.steps import STAGES, STEPS, Candidate, settings_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.steps import Step

SHAPE, CLASSES = (8, 8, 1), 3
# So that a step takes seconds; whoever has other settings is tried with its defaults.
FAST: dict[str, float | int | str] = {
    "epochs": 2, "batch": 16, "shift": 0.0, "turn": 0.0, "scale": 0.0, "filters": "3", "clusters": 4, "values": 4
}  # fmt: skip
TOLERANCE = 0.05  # of a step's logits from run to run, as a share of their spread: threads add in another order


def examples(rows: int, seed: int) -> Examples:
    """Noise, with one of three bright stripes; the stripe is the class."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, rows)
    x = random.integers(0, 100, (rows, *SHAPE)).astype(np.uint8)
    for stripe in range(CLASSES):
        x[y == stripe, :, 3 * stripe : 3 * stripe + 2] += 120
    return Examples(x, y, np.array([str(i) for i in range(rows)]))


@lru_cache(maxsize=1)
def example() -> tuple[Candidate, TrainingData]:
    """A trained candidate and the data that it was trained on, made once."""
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(3)
    data = TrainingData(examples(192, 1), examples(32, 2), CLASSES)
    net = network(SHAPE, (4,), 1, 8, CLASSES)
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = {"epochs": 8, "batch": 16, "learning_rate": 0.01, "shift": 0, "turn": 0, "scale": 0}
    train(net, data.train.x, data.train.y, settings, 3, lambda _, y, logits: cross_entropy(y, logits), "example")
    return Candidate(net), data


@lru_cache(maxsize=64)
def result(name: str) -> Candidate:
    """What the step makes of the example, once for all checks."""
    candidate, data = example()
    return STEPS.get(name).apply(candidate, data, fast_settings(STEPS.get(name)), 5, candidate.keras)


def fast_settings(step: Step) -> dict[str, Any]:
    """The step's settings, those that cost time made small."""
    return dict(step.SETTINGS) | {key: value for key, value in FAST.items() if key in step.SETTINGS}


def logits(candidate: Candidate, x: NDArray[np.generic]) -> NDArray[np.float32]:
    """The candidate's answers: of its `.tflite` on LiteRT, or of the net."""
    if candidate.model:
        return RUNTIMES.get("litert").load(candidate.model, 8)(x)
    answers: NDArray[np.float32] = candidate.keras(x.astype(np.float32), training=False).numpy()
    return answers


def check_it_takes_the_same_records_and_gives_the_same_classes(name: str) -> None:
    """Logits for every row and class, all of them numbers; it still knows most stripes."""
    unseen = examples(96, 9)
    answers = logits(result(name), unseen.x)
    assert answers.shape == (96, CLASSES)
    assert np.isfinite(answers).all()
    if getattr(STEPS.get(name), "STAGE", "") != "rebuild":
        assert (answers.argmax(axis=1) == unseen.y).mean() > 0.6


def check_a_seed_decides_and_what_it_got_stays_as_it_was(name: str) -> None:
    """Another run with the seed gives the same model, within the tolerance, and changes neither candidate nor rows."""
    candidate, data = example()
    before = [weight.copy() for weight in candidate.keras.get_weights()]
    rows = data.train.x.copy()
    first = logits(result(name), examples(48, 8).x)
    again = STEPS.get(name).apply(candidate, data, fast_settings(STEPS.get(name)), 5, candidate.keras)
    second = logits(again, examples(48, 8).x)
    np.testing.assert_allclose(first, second, atol=TOLERANCE * float(np.ptp(first)))
    for now, then in zip(candidate.keras.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(data.train.x, rows)
    assert (candidate.model, dict(candidate.masks), dict(candidate.notes)) == (b"", {}, {})


def check_its_settings_are_data(name: str) -> None:
    """Defaults are numbers or texts, an unknown setting and a wrong type are one clear line, and its stage is known."""
    step = STEPS.get(name)
    assert isinstance(step.VERSION, int)
    assert getattr(step, "STAGE", STAGES[0]) in STAGES
    assert settings_of(name, {}) == dict(step.SETTINGS)
    with pytest.raises(UnknownName, match=rf"no setting of step {name} is called 'nonsense'"):
        settings_of(name, {"nonsense": 1}, "recipe x")
    for key, value in step.SETTINGS.items():
        assert type(value) in (int, float, str)
        with pytest.raises(CatalogError, match=rf"recipe x: step {name}: `{key}` is "):
            settings_of(name, {key: [1]}, "recipe x")


CHECKS = (
    check_it_takes_the_same_records_and_gives_the_same_classes,
    check_a_seed_decides_and_what_it_got_stays_as_it_was,
    check_its_settings_are_data,
)
