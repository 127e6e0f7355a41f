"""Images a second and memory of a site's whole path, beside the bare interpreter and beside Ray Data.

    python -m benchmarks.throughput

The images are the real digits of `mnist-5k`, repeated, shifted by up to two pixels and with noise on the ink. Three
questions, each answered by a ratio within one run:

- `bare_ratio`: how much of the speed of the best simple loop over arrays in memory is left when shards are read
  from the store, decompressed, verified, answered, and their results and escalations committed?
- `ray_ratio`: how many times the speed of Ray Data is that, for the same job from the same store?
- `rss_growth_10x`: how much does ten times the data add to the peak of resident memory?

Each measurement is a process of its own, and data is made in yet another, so that nothing is warm or resident that
should not be. The servers, the trained model and the shards are kept in `.cloudedge/bench`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks._results import ROOT, Target, commit, table, write
from benchmarks._store import HOME, local_store
from data_catalog.catalog import Catalog
from data_catalog.nouns import EscalationOrder, OrderedShard, Shard, VariantCard, WorkOrder
from infra import cascade, keys, ledger, model_registry, pipeline, shards, sources, storage
from infra.codecs import CODECS
from infra.settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

DATASET, SITE, CODEC = "jittered-digits", "bench", "zstd"
SHARD_ROWS = 32768  # 25 MiB: what one object costs in requests is then little beside its rows
DEFAULT_SHARD_ROWS = 8192  # of a dataset that does not say
IMAGES = 32 * SHARD_ROWS
REPEATS = 3  # without Ray, and as many in turns with it
THREADS = 2
BOUND = 0.01  # of accuracy, from which the threshold of escalation follows
CHUNK = 8192  # rows whose classes and confidences the bare loop computes at a time
RAY_LOCK = ROOT / "requirements" / "ray.txt"
RAY_WAYS = [("read", None), ("read", 4096), ("keys", None), ("keys", 4096)]
TARGETS = {"bare_ratio": Target(0.8), "ray_ratio": Target(3.0), "rss_growth_10x": Target(0.2, at_least=False)}


def main() -> None:
    """Measure, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    found = arguments.parse_args()
    if found.part:
        print(json.dumps(PARTS[found.part](json.loads(sys.stdin.read()))))
        return
    measured = commit()
    with local_store():
        metrics, ways = measure(found.images)
    record = write("throughput", metrics, TARGETS, explain(metrics, ways, found.images), measured)
    print("\n".join(table(metrics, TARGETS)))
    print("all targets met" if all(record["met"].values()) else "a target was missed")  # type: ignore[attr-defined]


def measure(images: int) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """All metrics, and what Ray Data did in each way that was tried."""
    say(f"model and {images:,} images")
    job = part("prepare", {"images": images})
    gateway = next(child.pid for child in psutil.Process().children() if "juicefs" in child.name())
    job |= {"gateway": gateway}
    say("site and bare loop")
    runs = [part("compare", job | {"repeats": REPEATS})]
    say("Ray Data, each way once")
    ways = ray(job, RAY_WAYS)
    best = max(ways, key=lambda way: way["images_per_second"], default=None)
    say("site, bare loop and the best of Ray's ways in turns")
    pairs = []
    for _ in range(REPEATS):
        runs.append(part("compare", job | {"repeats": 1}))
        if best and (again := ray(job, [(best["way"], best["batch"])])):
            ways += again
            pairs.append((runs[-1]["site"][0], again[0]["images_per_second"]))
    say("default shards; memory")
    small = part("compare", job | {"repeats": REPEATS, "shards": job["small_shards"]})
    peaks = [part("memory", job | {"times": times}) for times in (1, 10)]
    part("clean", job)
    site, bare, ratios = (np.concatenate([run[name] for run in runs]) for name in ("site", "bare", "ratio"))
    spent = {name: float(np.median([run[f"{name}_cpu"] for run in runs])) for name in ("site", "bare", "store")}
    return {
        "bare_ratio": float(np.median(ratios)),
        "ray_ratio": float(np.median([ours / theirs for ours, theirs in pairs])) if pairs else None,
        "rss_growth_10x": peaks[1]["mib"] / peaks[0]["mib"] - 1,
        "site_images_per_second": float(np.median(site)),
        "bare_images_per_second": float(np.median(bare)),
        "ray_images_per_second": float(np.median([theirs for _, theirs in pairs])) if pairs else None,
        "bare_ratio_of_default_shards": float(np.median(small["ratio"])),
        "bare_cpu_ratio": spent["bare"] / (spent["site"] + spent["store"]),
        **{f"{name}_cpu_us_per_image": seconds for name, seconds in spent.items()},
        "peak_mib_1x": peaks[0]["mib"],
        "peak_mib_10x": peaks[1]["mib"],
    }, ways


def say(text: str) -> None:
    """Tell what is being measured, on standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def part(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """What a part of this program says, run as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.throughput", "--part", name]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- the parts, each in its own process -------------------------------------------------------------------


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Train the model and store the shards, unless both are there; say what the others need."""
    from tasks.plan_placement import read_threshold
    from tasks.probe_site import measure_speed
    from tasks.train_model import train_model

    settings = read_settings()
    catalog, store = Catalog(), storage.open_store(settings.bucket)
    cards = train_model(catalog.model("digits"), catalog.dataset("mnist-5k"), settings.home, store.bucket)
    card = cards["edge"]
    return {
        "card": card.model_dump(mode="json"),
        "cloud": cards["cloud"].digest,
        "threshold": read_threshold(store, cards, BOUND).threshold,
        "batch": measure_speed(card, model_registry.read_model(store, card)).batch,
        "bucket": store.bucket,
        "shards": stored(store, job["images"], SHARD_ROWS),
        "small_shards": stored(store, job["images"], DEFAULT_SHARD_ROWS),
    }


def stored(store: storage.Store, images: int, rows: int) -> list[dict[str, Any]]:
    """The shards of that many rows; made where the store does not have them."""
    key = keys.shard_index(DATASET, SITE, f"{images}-by-{rows}")
    if store.exists(key):
        found = ledger.read_index(store.get(key), key).shards
        if len(store.present([keys.shard(DATASET, shard.digest, CODEC) for shard in found])) == len(found):
            return [shard.model_dump() for shard in found]
    digits = real_digits()

    def encode(first: int) -> tuple[Shard, bytes]:
        x = jittered(digits, first, min(rows, images - first))
        plain = shards.encode(sources.record_ids(SITE, np.arange(first, first + len(x))), x)
        shard = Shard(
            digest=shards.digest(plain), rows=len(x), bytes=len(plain), raw_bytes=x.nbytes, origin=SITE, source=SITE,
            first_row=first,
        )  # fmt: skip
        return shard, plain

    def put(made: tuple[Shard, bytes]) -> Shard:
        store.put(keys.shard(DATASET, made[0].digest, CODEC), CODECS.get(CODEC).compress(made[1]))
        return made[0]

    made, _ = pipeline.run_stages(range(0, images, rows), [("encode", encode), ("put", put)])
    store.put(key, ledger.write_index(made, "", []))
    return [shard.model_dump() for shard in made]


def real_digits() -> np.ndarray[Any, Any]:
    """All 5,000 images of mnist-5k, (n, 28, 28, 1) uint8."""
    dataset = Catalog().dataset("mnist-5k")
    return np.concatenate(
        [
            records.x
            for source in dataset.sources
            for records in sources.read_records(dataset, source, storage.local_copy(source.uri, HOME / "downloads"))
        ]
    )


def jittered(digits: np.ndarray[Any, Any], first: int, rows: int) -> np.ndarray[Any, Any]:
    """Rows of the endless dataset: each block of 4,096 shuffled, shifted and noised by a seed of its own.

    Noise falls on ink alone, as paper is scanned to plain zeros: so the images compress about as the real do.
    """
    made = []
    for block in range(first // 4096, -(-(first + rows) // 4096)):
        rng = np.random.default_rng([5000, block])
        chosen = digits[rng.integers(0, len(digits), 4096)]
        down, right = rng.integers(0, 5, (2, len(chosen)))
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(chosen, ((0, 0), (2, 2), (2, 2), (0, 0))), (28, 28), axis=(1, 2)
        )
        moved = windows[np.arange(len(chosen)), down, right].transpose(0, 2, 3, 1)
        noise = rng.integers(-12, 13, moved.shape, dtype=np.int16)
        made.append(np.where(moved > 0, np.clip(moved + noise, 0, 255), 0).astype(np.uint8))
    skip = first % 4096
    return np.concatenate(made)[skip : skip + rows]


def compare(job: dict[str, Any]) -> dict[str, Any]:
    """The site's path and the bare loop in turns, on the same images."""
    store = storage.open_store(job["bucket"])
    card = VariantCard.model_validate(job["card"])
    model = model_registry.read_model(store, card)
    x = np.empty((sum(shard["rows"] for shard in job["shards"]), *card.shape), card.dtype)
    end = 0
    for shard in job["shards"]:
        key = keys.shard(DATASET, shard["digest"], CODEC)
        x[end : end + shard["rows"]] = shards.decode(
            shards.unpack(store.get(key), CODEC, shard["bytes"], shard["digest"], key)
        )[1]
        end += shard["rows"]
    trial = x[: 16 * CHUNK]
    batch = max((32, 64, 128, 256), key=lambda rows: max(bare(model, card, trial, rows) for _ in range(2)))
    gateway = psutil.Process(job["gateway"])
    said: dict[str, list[float]] = {
        "site": [],
        "bare": [],
        "ratio": [],
        "site_cpu": [],
        "bare_cpu": [],
        "store_cpu": [],
    }
    for _ in range(job["repeats"]):
        before = time.process_time()
        simple = bare(model, card, x, batch)
        said["bare_cpu"].append((time.process_time() - before) / len(x) * 1e6)
        before, served = time.process_time(), cpu_seconds(gateway)
        whole = site(job)
        said["site_cpu"].append((time.process_time() - before) / len(x) * 1e6)
        said["store_cpu"].append((cpu_seconds(gateway) - served) / len(x) * 1e6)
        said["site"].append(whole)
        said["bare"].append(simple)
        said["ratio"].append(whole / simple)
    return {
        name: values if name in {"site", "bare", "ratio"} else float(np.median(values)) for name, values in said.items()
    }


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has used up of the cores so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def bare(model: bytes, card: VariantCard, x: np.ndarray[Any, Any], batch: int) -> float:
    """Images a second of the best simple loop: a thread and an interpreter for each core, half of the array each."""
    from ai_edge_litert.interpreter import Interpreter

    classes, confidences = np.empty(len(x), np.int32), np.empty(len(x), np.float32)

    def loop(first: int, last: int) -> None:
        interpreter = Interpreter(model_content=model, num_threads=1)
        source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        logits, rows_now = np.empty((CHUNK, len(card.classes)), np.float32), 0
        for chunk in range(first, last, CHUNK):
            size = min(CHUNK, last - chunk)
            for start in range(0, size, batch):
                part = x[chunk + start : chunk + min(start + batch, size)]
                if len(part) != rows_now:
                    interpreter.resize_tensor_input(source, part.shape)
                    interpreter.allocate_tensors()
                    rows_now = len(part)
                interpreter.set_tensor(source, part)
                interpreter.invoke()
                logits[start : start + rows_now] = interpreter.get_tensor(target)
            done = cascade.answer(logits[:size], card.temperature)
            classes[chunk : chunk + size], confidences[chunk : chunk + size] = done

    edges = np.linspace(0, len(x), THREADS + 1).astype(int).tolist()
    begun = time.perf_counter()
    threads = [threading.Thread(target=loop, args=pair) for pair in pairwise(edges)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(x) / (time.perf_counter() - begun)


def site(job: dict[str, Any], times: int = 1) -> float:
    """Images a second of the whole call that a site makes for its work order, under result names not used before.

    Args:
        job: as `prepare` said.
        times: how often the order names each shard, every time for another result.
    """
    from tasks.infer_shards import infer_shards

    settings = read_settings()
    store = storage.open_store(job["bucket"])
    card = VariantCard.model_validate(job["card"])
    run = f"bench-{time.time_ns()}"
    order = WorkOrder(
        run_id=run, order_id=SITE, site=SITE, tier="edge", card=card, batch=job["batch"], threads=THREADS,
        shards=tuple(
            OrderedShard(
                key=keys.shard(DATASET, shard["digest"], CODEC), digest=shard["digest"], rows=shard["rows"],
                bytes=shard["bytes"], codec=CODEC, local=True,
                result=keys.result_name(shard["digest"], card.digest, f"{run}-{time}"),
            )
            for time in range(times) for shard in job["shards"]
        ),
        escalation=EscalationOrder(
            threshold=job["threshold"], temperature=card.temperature, codec=CODEC, cloud_variant=job["cloud"],
            preprocessing=run,
        ),
    )  # fmt: skip
    key = keys.run(run, "orders", f"{SITE}.json")
    store.put(key, order.model_dump_json().encode())
    begun = time.perf_counter()
    receipt = infer_shards(key, settings.home, store.bucket)
    seconds = time.perf_counter() - begun
    if receipt.computed_results != len(order.shards) or not receipt.escalated:
        raise SystemExit("the site did not do all of its order; nothing was measured")
    return receipt.rows / seconds


def memory(job: dict[str, Any]) -> dict[str, Any]:
    """Peak of resident memory of this process when it has done an order."""
    site(job, job["times"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": peak / (2**20 if sys.platform == "darwin" else 2**10)}


def clean(job: dict[str, Any]) -> dict[str, Any]:
    """Remove from the store what the measurements wrote; model and shards stay."""
    store = storage.open_store(job["bucket"])
    written = [key for folder in ("results", "escalations", "runs", "ray") for key in store.keys(folder)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.delete, written))
    return {"removed": len(written)}


PARTS = {"prepare": prepare, "compare": compare, "memory": memory, "clean": clean}


# --- Ray Data ---------------------------------------------------------------------------------------------


def ray(job: dict[str, Any], ways: list[tuple[str, int | None]]) -> list[dict[str, Any]]:
    """What Ray Data did in each of the ways; nothing, and a line that says why, where its environment cannot be built."""
    python = ray_environment()
    if not python:
        return []
    card = VariantCard.model_validate(job["card"])
    given = {
        "bucket": job["bucket"],
        "shards": [[keys.shard(DATASET, shard["digest"], CODEC), shard["rows"]] for shard in job["shards"]],
        "model": model_registry.read_model(storage.open_store(job["bucket"]), card).hex(),
        "batch": job["batch"],
        "temperature": card.temperature,
        "threads": THREADS,
        "target": "ray",
        "ways": ways,
    }
    command = [str(python), str(ROOT / "benchmarks" / "_ray_job.py")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        print(f"Ray Data failed after {len(said)} of {len(ways)} runs: {last_line(done.stderr)}", file=sys.stderr)
    return said


def ray_environment() -> Path | None:
    """The interpreter of an environment with just what the lock says; None, with a line, where it cannot be built."""
    folder = HOME / "ray"
    python, stamp = folder / "bin" / "python", folder / "lock.txt"
    if stamp.exists() and stamp.read_text() == RAY_LOCK.read_text():
        return python
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "uv>=0.8"],
        [
            str(python),
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--require-hashes",
            "-r",
            str(RAY_LOCK),
        ],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            print(
                f"the Ray environment cannot be built, so ray_ratio is not measured: {last_line(done.stderr)}",
                file=sys.stderr,
            )
            return None
    stamp.write_text(RAY_LOCK.read_text())
    return python


def last_line(text: str) -> str:
    """The last thing that a program said."""
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]


# --- what it means ----------------------------------------------------------------------------------------


def explain(metrics: dict[str, float | None], ways: list[dict[str, Any]], images: int) -> list[str]:
    """What was counted, and of what was missed the cause; Markdown."""
    spent = {name: metrics[f"{name}_cpu_us_per_image"] or 0.0 for name in ("site", "bare", "store")}
    lines = [
        f"{images:,} images in shards of {SHARD_ROWS:,}, compressed by {CODEC}, in the local S3 server; {THREADS} threads;"
        " medians of six turns, each a bare loop and then the site. Of the site the whole call is counted: reading the"
        " order, looking up the ledger, loading the model, fetching, decompressing and verifying the shards, answering,"
        " committing results and escalations, and the receipt. The S3 server works on the same cores. The bare loop has"
        " the images in memory, the batch that is best for it, an interpreter a thread, and computes class and"
        " confidence.",
        "",
        f"Of an image the bare loop takes {spent['bare']:.1f} µs of one core, the site {spent['site']:.1f} µs and the S3"
        f" server for it {spent['store']:.1f} µs: `bare_cpu_ratio`, which other work on the machine hardly sways. On a busy"
        " machine `bare_ratio` looks better than it is, as the site's many threads get a larger share of the cores.",
        "",
        f"Memory: peak of a fresh process for {images:,} images and for ten times as many.",
    ]
    if ways:
        lines += [
            "",
            "Ray Data does the same job, without digests and escalations, with two actors; it is warmed up by eight"
            " shards, and its clock starts when its first"
            " actor is ready. `read` lets Ray read the files, `keys` maps their keys to records by s3fs; Ray fuses both"
            " with the actors where the batches allow it. Each way ran once, the fastest then in turns with the site: the median"
            " ratio of those turns is `ray_ratio`.",
            "",
            "| Ray Data | rows in a batch | images a second |",
            "|---|---|---|",
            *(f"| {w['way']} | {w['batch'] or 'as they come'} | {w['images_per_second']:,.0f} |" for w in ways),
        ]
    causes = {
        "bare_ratio": "what a stored image costs beside its inference (the request's share, decompression, SHA-256,"
        " Parquet) is spent on the same two cores as the inference, and so small a model leaves little to hide it behind",
        "ray_ratio": "Ray's environment could not be built or ran into an error; the run says which"
        if metrics["ray_ratio"] is None
        else "Ray fuses the reading with its actors and so moves no images between processes; what is left is the same"
        " inference, which takes most of the time of either, and Ray neither verifies digests nor escalates. Even the"
        f" bare loop is but {(metrics['bare_images_per_second'] or 0) / (metrics['ray_images_per_second'] or 1):.1f} times"
        " as fast as Ray",
        "rss_growth_10x": "the allocator keeps what the longer run has touched once",
    }
    missed = [name for name, target in TARGETS.items() if not target.met(metrics[name])]
    return [*lines, *(line for name in missed for line in ("", f"**Missed:** `{name}`: {causes[name]}."))]


if __name__ == "__main__":
    main()
