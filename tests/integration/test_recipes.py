"""Both recipes on records that are no images: vectors and sequences; each learns what is easy to learn."""

from __future__ import annotations

import numpy as np
import pytest

from infra.recipes import RECIPES, Examples, TrainingData
from infra.runtimes import RUNTIMES

pytestmark = pytest.mark.integration

SETTINGS = {"filters": [8], "epochs": 6, "batch": 16, "learning_rate": 0.01}


def examples(shape, count, seed):
    """Two classes: bright at the beginning of the first axis, or at its end."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, count)
    x = random.integers(0, 90, (count, *shape)).astype(np.uint8)
    half = shape[0] // 2
    x[y == 0, :half] += 120
    x[y == 1, half:] += 120
    return Examples(x, y, np.array([str(i) for i in range(count)]))


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # the converter's own, for every int8 model
@pytest.mark.parametrize("shape", [(12,), (16, 2)], ids=["vectors", "sequences"])
def test_a_teacher_and_its_student(shape):
    data = TrainingData(examples(shape, 400, 1), examples(shape, 50, 2), 2)
    teacher = RECIPES.get("train_teacher").make(data, SETTINGS | {"units": 8}, 7, None)
    student = RECIPES.get("distil_int8").make(data, SETTINGS | {"temperature": 3.0, "hard": 0.3}, 7, teacher)
    unseen = examples(shape, 133, 3)
    for made, runtime in ((teacher, "tensorflow"), (student, "litert")):
        logits = RUNTIMES.get(runtime).load(made.model, 32)(unseen.x)
        assert logits.shape == (133, 2)
        assert (logits.argmax(axis=1) == unseen.y).mean() > 0.95
