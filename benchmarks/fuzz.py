"""Malformed inputs to every reader and every codec: how each ends.

    python -m benchmarks.fuzz

Inputs are made from valid files by a seeded generator (cut, bits flipped, numbers made absurd, magic changed,
pieces lost, doubled or put in, other formats under a false name) and by hand (bombs, traversal, headers and
messages that contradict themselves under right checksums, schemas that do not fit). Each is read in a
process with limits on memory and time, as a dataset with `on_bad_record: quarantine`. It may end as

- `refused`: one `CloudEdgeError` of one line;
- `quarantined`: records rejected, with reasons, and all others as they were;
- `unchanged`: the data of the valid file, because the damage lay where it means nothing;
- `undetectable`: other data, in a format that carries no checksum where the damage lay. That is every change of a
  value in CSV, TSV, JSON Lines, NPY, IDX, TIFF, JPEG, DICOM, Arrow IPC and in Parquet's headers and footer; a
  changed label in the name of a tar's member; and whole records that a TFRecord file lost or has
  twice, as one that was cut between two records.

These must not happen, and are counted as metrics:

- `tracebacks`: any other exception, or an error of more than one line; `crashes`: the process died;
- `hangs`: no end in `SECONDS`;
- `over_memory`: more than 512 MiB of private memory beyond what the process had before (RLIMIT_DATA), also where
  the reader turned the `MemoryError` into an error of ours;
- `silent`: other data than the valid file's, although a checksum covers the damage: gzip, bzip2 and zip's CRC-32,
  PNG's CRC-32, TFRecord's CRC-32C, the checksums of Parquet's pages, zstandard's content checksum, and a shard's
  SHA-256; or any data at all from an input made by hand, of which all are wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import connection as connections
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _fuzz_inputs, _fuzz_worker
from benchmarks._results import Target, commit, write

if TYPE_CHECKING:
    from collections.abc import Iterable

INPUTS = 6000
SECONDS = 20.0
WORKERS = 2
BAD = {"traceback": "tracebacks", "crash": "crashes", "hang": "hangs", "silent": "silent", "over_memory": "over_memory"}
TARGETS = {"inputs": Target(2000)} | {name: Target(0, at_least=False) for name in BAD.values()}


def main() -> None:
    """Run all inputs, print and store how they ended."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--inputs", type=int, default=INPUTS)
    words.add_argument("--seed", type=int, default=3)
    options = words.parse_args()
    measured_commit = commit()
    begun = time.monotonic()
    outcomes = fuzz(range(options.inputs), options.seed)
    seconds = time.monotonic() - begun
    ends = Counter(outcome for outcome, _ in outcomes)
    for outcome, detail in sorted(outcomes):
        if outcome in BAD or outcome == "broken":
            print(f"{outcome}: {detail}", file=sys.stderr)
    metrics: dict[str, float | None] = {"inputs": len(outcomes)}
    metrics |= {name: ends[outcome] for outcome, name in BAD.items()}
    metrics |= {name: ends[name] for name in ("refused", "quarantined", "unchanged", "undetectable")}
    metrics["seconds"] = seconds
    write("fuzz", metrics, TARGETS, explain(outcomes, options.seed), measured_commit)
    print(", ".join(f"{name} {value:,.0f}" for name, value in metrics.items() if value is not None))
    sys.exit(any(ends[outcome] for outcome in BAD))


def explain(outcomes: list[tuple[str, str]], seed: int) -> list[str]:
    """What was counted, for the page."""
    plug_ins = sorted({detail.partition(":")[0] for _, detail in outcomes})
    return [
        f"Seed {seed}: {len(plug_ins)} kinds of valid files over all readers and codecs, each damaged in many ways, and"
        " inputs made by hand. `python -m benchmarks.fuzz --help` says what each metric counts. Each input has"
        f" {SECONDS:.0f} s and {_fuzz_worker.HEADROOM >> 20} MiB of memory beyond what the process had before it.",
    ]


def fuzz(numbers: Iterable[int], seed: int, workers: int = WORKERS, seconds: float = SECONDS) -> list[tuple[str, str]]:
    """How the inputs of those numbers end: outcome and detail of each.

    Args:
        numbers: of inputs; the lowest are those made by hand.
        seed: of all others.
        workers: processes.
        seconds: that each input has.
    """
    spawning = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        made = _fuzz_inputs.targets(folder / "valid")
        waiting, outcomes = list(numbers)[::-1], []
        working: dict[Any, tuple[Any, int, float]] = {}  # by connection: process, number, since when

        def start() -> None:
            ours, theirs = spawning.Pipe()
            place = folder / f"worker-{time.monotonic_ns()}"
            process = spawning.Process(target=_fuzz_worker.serve, args=(theirs, place, made, seed), daemon=True)
            process.start()
            theirs.close()
            ours.recv()
            give(ours, process)

        def give(ours: Any, process: Any) -> None:
            if waiting:
                number = waiting.pop()
                ours.send(number)
                working[ours] = (process, number, time.monotonic())
            else:
                ours.close()
                process.join()

        for _ in range(workers):
            start()
        while working:
            ready = connections.wait(list(working), timeout=1.0)
            for ours in ready:
                process, number, _ = working.pop(ours)
                try:
                    _, outcome, detail = ours.recv()
                    outcomes.append((outcome, detail))
                    give(ours, process)
                except (EOFError, ConnectionError):
                    process.join()
                    outcomes.append(("crash", f"input {number}: the process ended with {process.exitcode}"))
                    start()
            for ours, (process, number, since) in list(working.items()):
                if ours not in ready and time.monotonic() - since > seconds:
                    del working[ours]
                    process.kill()
                    process.join()
                    outcomes.append(("hang", f"input {number}: no end in {seconds:.0f} s"))
                    start()
    return outcomes


if __name__ == "__main__":
    main()
