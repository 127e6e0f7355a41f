"""Peak memory of preprocess, partition and compress, under a limit that ten times the data exceed ten times.

    python -m benchmarks.memory

A process whose data segment is limited (RLIMIT_DATA: heap, private maps, stacks of threads) prepares a source as large as
that limit, and another one prepares a source ten times as large. Both go from an `.npy` file to compressed shards in
the local S3 server. `rss_growth_10x` is how much the larger source adds to the peak of resident memory (`VmHWM`). Arrow
allocates from the C library here, because its own allocator reserves a GiB that it does not use, and the limit counts that.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._results import ROOT
from benchmarks._store import local_store
from data_catalog.nouns import Dataset, Placement
from infra import keys, sources
from infra.settings import read_settings
from infra.storage import open_store

LIMIT = 640 << 20
ALLOCATOR = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
SHAPE = (64, 64, 1)
BLOCK = 4096
TIMES = (1, 10)


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        print(json.dumps(prepare(json.loads(sys.argv[1]))))
        return
    with local_store():
        for name, value in measure().items():
            print(f"{name:16} {value:.3g}")


def measure() -> dict[str, float]:
    """Peaks in MiB at each size, and their growth; the store is that of the settings, and must run."""
    peaks = {}
    for times in TIMES:
        with tempfile.TemporaryDirectory(dir=read_settings().home) as folder:
            job = {"folder": folder, "images": times * LIMIT // int(np.prod(SHAPE)), "times": times}
            write_source(Path(folder) / "source.npy", job["images"])
            command = [sys.executable, "-m", "benchmarks.memory", json.dumps(job)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | ALLOCATOR
            )
            if done.returncode:
                raise SystemExit(f"the limited process failed:\n{done.stderr[-3000:]}")
            peaks[times] = json.loads(done.stdout.splitlines()[-1])["mib"]
    return {
        "rss_growth_10x": peaks[10] / peaks[1] - 1,
        "limit_mib": LIMIT / 2**20,
        "source_mib_10x": 10 * LIMIT / 2**20,
        **{f"prepare_mib_{times}x": peak for times, peak in peaks.items()},
    }


def write_source(path: Path, images: int) -> None:
    """Images of blurred noise, compressible about as photographs are, written in blocks."""
    random = np.random.default_rng(8)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (images, *SHAPE))
    for start in range(0, images, BLOCK):
        count = min(BLOCK, images - start)
        array[start : start + count] = random.integers(0, 24, (count, *SHAPE), np.uint8)
    array.flush()


def prepare(job: dict[str, Any]) -> dict[str, float]:
    """Preprocess, cut and compress one source in this process; the peak of its resident memory in MiB."""
    from tasks.compress_shards import compress_shards
    from tasks.cut_shards import cut_shards
    from tasks.preprocess_source import preprocess_source

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    name, work = f"large-{job['times']}x", Path(job["folder"])
    dataset = Dataset.model_validate(
        {
            "name": name, "description": "", "license": "", "format": "npy", "record": {"shape": SHAPE, "dtype": "uint8"},
            "sources": [{"site": "bench", "uri": str(work / "source.npy")}],
        }
    )  # fmt: skip
    bucket = read_settings().required_bucket()
    prepared = preprocess_source(dataset, "bench", work, bucket)
    index = cut_shards(dataset, "bench", prepared.fingerprint, prepared.spool, work, bucket)
    if sum(shard.rows for shard in index.shards) != job["images"]:
        raise SystemExit("rows are missing")
    placements = [
        Placement(
            shard=shard, site="bench", variant="", codec="zstd", key=keys.shard(name, shard.digest, "zstd"), result="",
            reused=False, reason="",
        )
        for shard in index.shards
    ]  # fmt: skip
    compress_shards(dataset, "bench", placements, prepared.spool, True, bucket)
    # not ru_maxrss: that is inherited from the process that wrote the source through a map
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    store = open_store(bucket)
    for placement in placements:
        store.delete(placement.key)
    store.delete(keys.shard_index(name, "bench", prepared.fingerprint))
    store.delete(keys.latest_index(name, "bench", sources.lineage(dataset, dataset.source("bench"))))
    return {"mib": peak}


if __name__ == "__main__":
    main()
