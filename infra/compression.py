"""The search among recipes: what has to be done, in which order, once; each step's outcome is kept in the store.

Recipes that begin alike share what they begin with: all of them together are a tree of steps. It is done level by
level, so that conversions without training come first; the steps of a level run side by side through Dask. The
outcome of a step is an object named by the digest of all that went into it, so a search that was cut off goes on.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import CatalogError, CloudEdgeError, CorruptObject
from infra import keys, originals, storage
from infra.examples import load
from infra.recipes import Examples, TrainingData, import_tensorflow
from infra.settings import read_settings
from infra.steps import STAGES, STEPS, Candidate, settings_of
from infra.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import CompressionJob, CompressionRecipe

LAYOUT = 1  # of a step's outcome in the store
Steps = tuple[tuple[str, dict[str, float | int | str]], ...]
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work of a search: a step, or two that cannot be parted."""

    job: CompressionJob
    digest: str  # of what it makes
    before: str  # digest of what it begins with; empty: the original
    steps: Steps
    teacher: bool
    deadline: float  # UTC epoch seconds


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it."""

    digest: str
    status: str  # made, kept (it was there), failed, untried (the time was over)
    reason: str = ""
    seconds: float = 0.0


def checked(recipe: CompressionRecipe, where: str = "") -> Steps:
    """The recipe's steps with all their settings.

    Raises:
        UnknownName, CatalogError: a step or a setting is wrong, or the order cannot work; names recipe and remedy.
    """
    place = where or f"recipe {recipe.name}"
    steps = tuple((step.step, settings_of(step.step, step.settings, place)) for step in recipe.steps)
    stages = [_stage(name) for name, _ in steps]
    if stages[-1] != "convert":
        raise CatalogError(f"{place}: the last step is {steps[-1][0]}; end with one that converts, such as int8")
    if "convert" in stages[:-1]:
        early = steps[stages.index("convert")][0]
        raise CatalogError(f"{place}: step {early} converts, and nothing can follow that; put it last, and only one")
    for (first, _), (second, _) in pairwise(steps):
        if STAGES.index(_stage(first)) > STAGES.index(_stage(second)):
            raise CatalogError(f"{place}: step {second} after {first} would undo it; put {second} before {first}")
    if "quantise" in stages and steps[-1][0] != "int8":
        raise CatalogError(
            f"{place}: after {steps[stages.index('quantise')][0]} the model rounds as int8; end with int8"
        )
    return steps


def levels(
    job: CompressionJob, recipes: Sequence[CompressionRecipe], deadline: float
) -> tuple[list[list[Work]], dict[str, list[str]]]:
    """The work of all recipes, level by level, each piece once; and by recipe the digests of its pieces, in order.

    Raises:
        UnknownName, CatalogError: as `checked`.
    """
    work: dict[int, dict[str, Work]] = {}
    ways: dict[str, list[str]] = {}
    for recipe in recipes:
        before, way = "", []
        for level, steps in enumerate(_pieces(checked(recipe))):
            digest = _digest(job, before, steps, recipe.teacher)
            work.setdefault(level, {})[digest] = Work(job, digest, before, steps, recipe.teacher != "none", deadline)
            way.append(digest)
            before = digest
        ways[recipe.name] = way
    return [list(work[level].values()) for level in sorted(work)], ways


def carry_out(work: Work) -> Done:
    """Do a piece of work, if the store has not its outcome and there is time left.

    A step that refuses the model, or that TensorFlow fails at, fails its recipes and no others.

    Raises:
        StoreError: the store cannot be read or written.
    """
    job, begun = work.job, time.time()
    store = storage.open_store(job.bucket)
    key = keys.compression(job.model, job.version, "steps", work.digest)
    if store.exists(key):
        return Done(work.digest, "kept")
    if begun > work.deadline:
        return Done(work.digest, "untried", "the time was over before it began; run again to go on")
    before = keys.compression(job.model, job.version, "steps", work.before)
    if work.before and not store.exists(before):
        return Done(work.digest, "failed", "the step before it has no outcome")
    examples, net = material(job)
    data = TrainingData(examples["train"], examples["calibration"], len(job.classes))
    candidate = unpack(store.get(before), before) if work.before else Candidate(net)
    try:
        for name, settings in work.steps:
            candidate = STEPS.get(name).apply(candidate, data, settings, job.seed, net if work.teacher else None)
    except CloudEdgeError as error:
        return Done(work.digest, "failed", str(error), time.time() - begun)
    except (ValueError, RuntimeError, TypeError, AttributeError, import_tensorflow().errors.OpError) as error:
        names = ", ".join(name for name, _ in work.steps)
        reason = f"{names} failed with {type(error).__name__}: {' '.join(str(error).split())[:200]}; leave it out"
        return Done(work.digest, "failed", reason, time.time() - begun)
    store.put(key, pack(candidate))
    return Done(work.digest, "made", "", time.time() - begun)


def material(job: CompressionJob) -> tuple[dict[str, Examples], Any]:
    """The job's labelled rows by split, and its original as a Keras model; read once a process."""
    with _loading:
        return _material(job.model_dump_json())


@lru_cache(maxsize=2)
def _material(job_json: str) -> tuple[dict[str, Examples], Any]:
    from data_catalog.nouns import CompressionJob

    job = CompressionJob.model_validate_json(job_json)
    with workspace(read_settings().home) as work:
        examples = load(job.model, job.classes, job.dataset, work)
        return examples, originals.of_job(job, examples["train"].x, work)


def pack(candidate: Candidate) -> bytes:
    """A candidate as a ZIP: the net as Keras writes it, or the `.tflite`; masks and notes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, tempfile.TemporaryDirectory() as folder:
        archive.writestr("notes.json", json.dumps(dict(candidate.notes)))
        if candidate.model:
            archive.writestr("model.tflite", candidate.model)
        else:
            path = Path(folder) / "model.keras"
            candidate.keras.save(path, save_format="keras")
            archive.write(path, "model.keras")
            masks = io.BytesIO()
            np.savez_compressed(masks, **{name.replace("/", "|"): mask for name, mask in candidate.masks.items()})
            archive.writestr("masks.npz", masks.getvalue())
    return buffer.getvalue()


def unpack(data: bytes, key: str) -> Candidate:
    """What `pack` packed.

    Raises:
        CorruptObject: it is something else; names the object.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, tempfile.TemporaryDirectory() as folder:
            notes = json.loads(archive.read("notes.json"))
            if "model.tflite" in archive.namelist():
                return Candidate(None, archive.read("model.tflite"), {}, notes)
            path = Path(folder) / "model.keras"
            path.write_bytes(archive.read("model.keras"))
            with np.load(io.BytesIO(archive.read("masks.npz")), allow_pickle=False) as arrays:
                masks = {name.replace("|", "/"): arrays[name] for name in arrays.files}
            return Candidate(import_tensorflow().keras.models.load_model(path, compile=False), b"", masks, notes)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise CorruptObject(f"{key} holds no step's outcome; delete that object and run again") from error


def _stage(step: str) -> str:
    return str(getattr(STEPS.get(step), "STAGE", "prune"))


def _pieces(steps: Steps) -> list[Steps]:
    """One step each; a net that rounds is not stored, so its training and its conversion are one piece."""
    pieces: list[Steps] = []
    for step in steps:
        if pieces and _stage(pieces[-1][-1][0]) == "quantise":
            pieces[-1] = (*pieces[-1], step)
        else:
            pieces.append((step,))
    return pieces


def _digest(job: CompressionJob, before: str, steps: Steps, teacher: str) -> str:
    """The name of what the steps make: of model and data, of what went before, of steps, settings and code."""
    code = [(name, STEPS.get(name).VERSION, _code(name)) for name, _ in steps]
    return keys.digest_of("step", LAYOUT, job.original.digest, job.version, job.seed, before, steps, teacher, code)


@lru_cache(maxsize=64)
def _code(step: str) -> tuple[str, ...]:
    """Digests of the step's file and of what the steps share."""
    own = Path(str(getattr(STEPS.get(step), "__file__", "")))
    shared = sorted((Path(__file__).parent / "steps").glob("_[!_]*.py"))
    return tuple(storage.file_digest(path) for path in (own, *shared))
