"""Images a second and core, by engine, net and variant: LiteRT against what else would answer, in turns.

`measure` starts this module as a process of its own, held to one core from its first instruction, so that no engine has
help from another core; children share that core. Each way answers the same images for a slice of time in every round,
and its best round counts. What it takes to hand images over a pipe is part of the way that needs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._results import ROOT
from data_catalog.errors import CloudEdgeError
from infra.runtimes import RUNTIMES
from infra.settings import export, inherited, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SHAPE, CLASSES = (28, 28, 1), 10
IMAGES = 2048
ROUNDS, SLICE_SECONDS = 5, 0.15
BATCHES = (1, 8, 32, 128, 512)
VARIANTS = ("float32", "float16", "dynamic-range", "int8")
NETS = ("student", "lenet5")
OLD = ROOT / ".venv-tflite" / "bin" / "python"


def measure() -> tuple[dict[str, float | None], list[str]]:
    """The metrics and the lines for the page.

    `litert_over_savedmodel`: of each net, the fastest variant in LiteRT over the SavedModel's function with its fastest
    batch; the smaller of the two nets' ratios. `litert_over_tflite_runtime`: the int8 variant of the default student in
    both runtimes; None where the old one's environment cannot be made.
    """
    if not read_settings().tflite_python and _environment():
        export({"CLOUDEDGE_TFLITE_PYTHON": str(OLD)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._inference"], capture_output=True, text=True, cwd=ROOT, env=inherited()
    )
    if done.returncode:
        raise RuntimeError(f"benchmarks._inference failed: {done.stderr[-2000:]}")
    rates: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return summary(rates)


def summary(rates: dict[str, dict[str, float]]) -> tuple[dict[str, float | None], list[str]]:
    """Ratios and a table of `rates`: by net, images a second of each way (`<engine> <variant>`)."""
    saved, others, lines = [], {}, []
    for net, of in rates.items():
        best = max(rate for way, rate in of.items() if way.startswith("litert "))
        saved.append(best / of["savedmodel float32"])
        others[f"{net}_litert_over_keras_predict"] = best / of["keras-predict float32"]
        old = [rate for way, rate in of.items() if way.startswith("tflite_runtime ")]
        others[f"{net}_litert_over_tflite_runtime_best"] = best / max(old) if old else None
        others[f"{net}_litert_int8_rows_per_second"] = of["litert int8"]
    student = rates["student"]
    old_int8 = student.get("tflite_runtime int8")
    metrics: dict[str, float | None] = {
        "litert_over_savedmodel": min(saved),
        "litert_over_tflite_runtime": student["litert int8"] / old_int8 if old_int8 else None,
        **others,
    }
    ways = list(dict.fromkeys(way for of in rates.values() for way in of))
    lines += ["Images a second of one core, each way with its fastest batch:", ""]
    lines += ["| engine and variant | " + " | ".join(rates) + " |", "|---|" + "---|" * len(rates)]
    for way in ways:
        cells = (f"{of[way]:,.0f}" if way in of else "refused or not there" for of in rates.values())
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`litert_over_savedmodel` is the fastest variant in LiteRT over the SavedModel, of the net where that is less;"
        " `litert_over_tflite_runtime` is the default student's int8 file in both. LeNet-5 is Caffe's, of 431,080"
        " parameters. Weights are random: no engine's speed depends on them.",
    ]
    return metrics, lines


def _environment() -> bool:
    """Whether there is an environment for tflite-runtime; makes it if it can."""
    if OLD.exists():
        return True
    uv = str(Path(sys.executable).with_name("uv"))
    lock = str(ROOT / "requirements" / "tflite.txt")
    return all(
        subprocess.run([uv, *command], capture_output=True).returncode == 0
        for command in (
            ["venv", "--quiet", "--python", "3.11", str(OLD.parents[1])],
            ["pip", "install", "--quiet", "--python", str(OLD), "--require-hashes", "-r", lock],
        )
    )


def net_of(name: str) -> Any:
    """The default edge variant's architecture, or Caffe's LeNet-5; both take values from 0 to 255."""
    from infra.recipes import import_tensorflow
    from infra.recipes._training import network

    if name == "student":
        return network(SHAPE, [8, 16], 1, 0, CLASSES)
    layers = import_tensorflow().keras.layers
    stack = [
        layers.Input(SHAPE), layers.Rescaling(1 / 255), layers.Conv2D(20, 5), layers.MaxPooling2D(),
        layers.Conv2D(50, 5), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(CLASSES),
    ]  # fmt: skip
    return import_tensorflow().keras.Sequential(stack)


def converted(net: Any, variant: str, images: NDArray[np.uint8]) -> bytes:
    """The net as a `.tflite`; dynamic range so that tflite-runtime 2.14 can load it too."""
    from infra.recipes import import_tensorflow
    from infra.recipes.distil_int8 import quantised

    if variant == "int8":
        return quantised(net, images[:64])
    tf = import_tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "dynamic-range":
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    model: bytes = converter.convert()
    return model


def ways_of(net: Any, images: NDArray[np.uint8]) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Name of a way, and what makes it for a batch: a function that answers images."""
    from infra.recipes.train_teacher import saved_model

    def loaded(runtime: str, model: bytes) -> Callable[[int], Any]:
        return lambda batch: RUNTIMES.get(runtime).load(model, batch)

    for variant in VARIANTS:
        model = converted(net, variant, images)
        yield f"litert {variant}", loaded("litert", model)
        if read_settings().tflite_python:
            yield f"tflite_runtime {variant}", loaded("tflite_runtime", model)
    yield "savedmodel float32", loaded("tensorflow", saved_model(net, "uint8"))
    yield "keras-predict float32", lambda batch: lambda x: net.predict(x, batch_size=batch, verbose=0)


def rates_of(net: Any, images: NDArray[np.uint8]) -> dict[str, float]:
    """Images a second of each way with its fastest batch, in turns."""
    chosen: dict[str, tuple[Any, int]] = {}
    for name, make in ways_of(net, images):
        tried = {}
        for batch in BATCHES:
            try:
                answer = make(batch)
                answer(images[:batch])
            except CloudEdgeError:
                break
            tried[batch] = (_rate(answer, images, batch, SLICE_SECONDS), answer)
        if tried:
            batch = max(tried, key=lambda size: tried[size][0])
            chosen[name] = (tried[batch][1], batch)
    rounds: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(ROUNDS):
        for name, (answer, batch) in chosen.items():
            rounds[name].append(_rate(answer, images, batch, SLICE_SECONDS))
    return {name: max(found) for name, found in rounds.items()}


def _rate(answer: Callable[[Any], Any], images: NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Images a second over about so many seconds."""
    rows, at_once, begun = 0, batch, time.perf_counter()
    while (past := time.perf_counter() - begun) < seconds:
        if rows:
            at_once = max(1, min(len(images), int(rows / past * (seconds - past))) // batch) * batch
        answer(images[:at_once])
        rows += at_once
    return rows / past


def main() -> None:
    """Measure on one core and print the rates as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE)).astype(np.uint8)
    print(json.dumps({name: rates_of(net_of(name), images) for name in NETS}))


if __name__ == "__main__":
    main()
