"""The gate: a variant is measured on the runtime that will execute it, and published only inside its bounds.

What was measured goes into the card and stays; the verdict is a pure function of two cards and the bounds. Some
faults no bound excuses: logits that are no numbers, one answer for everything, classes in another order.

Calibration error: the expected one of M. P. Naeini et al., AAAI 2015, with 15 bins, after temperature scaling (C. Guo
et al., ICML 2017) whose temperature was fitted on other rows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from data_catalog.errors import BadInput, ModelRefused, SiteFailed
from infra import cascade, flatbuffer, shards, shelf
from infra.runtimes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import Gate, VariantCard
    from infra.recipes import Examples
    from infra.runtimes import Predictor

BATCH = 64
BINS = 15
LITE_RUNTIMES = ("litert", "tflite_runtime")  # that execute a `.tflite`
AGREEING = 0.99  # share of the rows with one class on both, and the same share of right answers less the rest
TIMED_SECONDS = 0.1  # for each of latency and throughput
PERMUTED_GAIN = 0.1  # of accuracy by another order of the classes, from which on the order is the fault


def measure(
    model: bytes, runtime: str, examples: Mapping[str, Examples], reference: NDArray[np.float32] | None
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]], Predictor]:
    """What a card says of a model, measured on the held-out rows.

    Args:
        model: its bytes, as the runtime takes them.
        runtime: that will execute it.
        examples: by split; `validation`, perhaps `test`, and `calibration`, on which the temperature is fitted: one
            that had seen the validation rows would give their confidences a part in the threshold chosen on them.
        reference: (n, classes) logits of the original on the validation rows; None: it is the original.

    Returns:
        Fields of the card; logits by split; the predictor.

    Raises:
        ModelRefused: the runtime cannot load or run it, or its answers have another shape.
    """
    predict = RUNTIMES.get(runtime).load(model, BATCH)
    validation = examples["validation"]
    x, y = validation.x, validation.y
    logits = {split: _logits(predict, examples[split]) for split in ("validation", "test") if split in examples}
    mine = logits["validation"]
    whole = mine if reference is None else reference
    if mine.shape != whole.shape:
        raise ModelRefused(f"it gives {mine.shape[1]} logits a row, and the original {whole.shape[1]}")
    right, right_whole = mine.argmax(axis=1) == y, whole.argmax(axis=1) == y
    finite = bool(np.isfinite(mine).all())
    fitted_on = examples.get("calibration", validation)
    by_class = [_by_class(hits, y, mine.shape[1]) for hits in (right, right_whole)]
    latency, rate = _speed(predict, x)
    fields = {
        "runtime": runtime,
        "runtime_version": RUNTIMES.get(runtime).version(),
        "digest": shards.digest(model),
        "bytes": len(model),
        "stored_bytes": len(shelf.pack(model)),
        "shape": x.shape[1:],
        "dtype": x.dtype.name,
        "signature": f"{x.dtype.name}{list(x.shape[1:])} -> float32[{mine.shape[1]}]".replace(" ", "").replace("->", " -> "),
        "temperature": cascade.fit_temperature(_logits(predict, fitted_on), fitted_on.y) if finite else 1.0,
        "calibration_rows": len(fitted_on.y) if fitted_on is not validation else 0,
        "validation_rows": len(y),
        "accuracy": float(right.mean()),
        "accuracy_interval": cascade.wilson_interval(int(right.sum()), len(y)),
        "class_accuracy": by_class[0],
        "class_drop": tuple(high - low for low, high in zip(*by_class, strict=True)),
        "agreement": float((mine.argmax(axis=1) == whole.argmax(axis=1)).mean()),
        "calibration_error": calibration_error(mine, y) if finite else None,
        "latency_seconds": latency,
        "rows_per_second": rate,
        "lowest_runtime": flatbuffer.lowest_runtime(model) if runtime in LITE_RUNTIMES else "",
        **_other_runtimes(model, runtime, validation, mine),
    }  # fmt: skip
    return fields, logits, predict


def faults(logits: NDArray[np.float32], labels: NDArray[np.integer], classes: Sequence[str]) -> tuple[str, ...]:
    """What no bound excuses in (n, classes) logits on (n,) labels, each in words with the remedy."""
    if strange := int((~np.isfinite(logits)).any(axis=1).sum()):
        return (f"{strange} of {len(logits)} rows have logits that are no numbers; its weights or ranges are broken",)
    answers = logits.argmax(axis=1)
    said, true = np.unique(answers), np.unique(labels)
    if len(said) == 1 and len(true) > 1:
        return (
            f"it answers {classes[said[0]]!r} to every row; it has learnt nothing, or its input is scaled otherwise",
        )
    table = np.zeros((len(classes), len(classes)), int)
    np.add.at(table, (answers, labels), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    permuted, as_it_is = table[rows, columns].sum() / len(labels), np.trace(table) / len(labels)
    if permuted - as_it_is > PERMUTED_GAIN and permuted > 0.5:
        order = ", ".join(classes[c] for c in columns)
        return (
            f"its classes stand in another order than the labels: it is right on {as_it_is:.2%} of the rows, and would be"
            f" on {permuted:.2%} if its outputs meant {order}; correct the order of `classes`",
        )
    return ()


def refuse_if_worse(card: VariantCard, original: VariantCard, gate: Gate) -> None:
    """The bounds: a variant's accuracy stays within them of the original's, overall and in every class.

    Raises:
        ModelRefused: it lies too far below; names where.
    """
    what = f"the {card.name} variant of {card.model}"
    if original.accuracy - card.accuracy > gate.max_drop:
        low, high = card.accuracy_interval
        raise ModelRefused(
            f"{what} is right on {card.accuracy:.2%} of the validation rows ({low:.2%} to {high:.2%}), the cloud's on"
            f" {original.accuracy:.2%}: more than `gate.max_drop` {gate.max_drop:.2%} lower; change its settings"
        )
    for name, low, high in zip(card.classes, card.class_accuracy, original.class_accuracy, strict=True):
        if high - low > gate.max_class_drop:
            raise ModelRefused(
                f"{what} is right on {low:.2%} of class {name!r}, the cloud's on {high:.2%}:"
                f" more than `gate.max_class_drop` {gate.max_class_drop:.2%} lower; change its settings"
            )


def calibration_error(logits: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Expected calibration error of (n, classes) logits: each half of the rows with the other half's temperature."""
    error = 0.0
    for half in (0, 1):
        mine, other = slice(half, None, 2), slice(1 - half, None, 2)
        if not len(labels[mine]) or not len(labels[other]):
            return 0.0
        answers, confidence = cascade.answer(logits[mine], cascade.fit_temperature(logits[other], labels[other]))
        right = answers == labels[mine]
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        for b in np.unique(bins):
            inside = bins == b
            error += abs(float(right[inside].mean()) - float(confidence[inside].mean())) * int(inside.sum())
    return error / len(labels)


def _logits(predict: Predictor, examples: Examples) -> NDArray[np.float32]:
    try:
        return predict(examples.x)
    except (ValueError, RuntimeError) as error:
        raise ModelRefused(f"it cannot answer the records ({' '.join(str(error).split())[:160]})") from error


def _by_class(right: NDArray[np.bool_], labels: NDArray[np.integer], classes: int) -> tuple[float, ...]:
    return tuple(float(right[labels == c].mean()) if (labels == c).any() else 1.0 for c in range(classes))


def _speed(predict: Predictor, x: NDArray[np.generic]) -> tuple[float, float]:
    """Median seconds for one row, and rows a second of one thread in batches."""
    many, one = x[: 4 * BATCH], x[:1]
    predict(one)
    times: list[float] = []
    begun = time.perf_counter()
    while not times or time.perf_counter() - begun < TIMED_SECONDS:
        start = time.perf_counter()
        predict(one)
        times.append(time.perf_counter() - start)
    predict(many)
    rows, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < TIMED_SECONDS or not rows:
        predict(many)
        rows += len(many)
    return float(np.median(times)), rows / (time.perf_counter() - begun)


def _other_runtimes(
    model: bytes, runtime: str, validation: Examples, logits: NDArray[np.float32]
) -> dict[str, dict[str, str]]:
    """`runs_on` and `refused_by` of a card: who else gives these answers; what is not installed here is not asked."""
    runs_on, refused_by = {runtime: RUNTIMES.get(runtime).version()}, {}
    mine = logits.argmax(axis=1)
    for name in LITE_RUNTIMES if runtime in LITE_RUNTIMES else ():
        if name == runtime or name not in RUNTIMES.names():
            continue
        try:
            other = RUNTIMES.get(name).load(model, BATCH)(validation.x)
        except (ModelRefused, SiteFailed) as error:
            refused_by[name] = str(error)
            continue
        except BadInput:
            continue
        same = float((other.argmax(axis=1) == mine).mean())
        lost = float((mine == validation.y).mean() - (other.argmax(axis=1) == validation.y).mean())
        if not np.isfinite(other).all() or same < AGREEING or lost > 1 - AGREEING:
            refused_by[name] = (
                f"there it answers {1 - same:.2%} of the validation rows otherwise, and {lost:.2%} fewer are right"
            )
        else:
            runs_on[name] = RUNTIMES.get(name).version()
    return {"runs_on": runs_on, "refused_by": refused_by}
