"""The data plane: codecs, and the right one for each link.

    python -m benchmarks.data [part ...]

A part is a module's function that returns `Measured`; all parts together make one record and one block of the page.
With names of parts only those run, and nothing is recorded.

- `codecs`: ratio and speed of every codec on one core, on images, float tensors and a sensor series;
- `links`: shards delivered through the local S3 store over links of 1, 10, 100 and 1000 Mbit/s:
  `codec_over_best_worst_link` is the time with the planner's choice over that with the best fixed codec, on the link
  where that ratio is the worst;
- `transfer`: s3fs, obstore and boto3 on the same server: `s3fs_over_obstore`;
- `encryption`: what sealing adds to compressing and sending a restricted dataset: `encryption_overhead`;
- `preprocess`: reading, checking and transforming beside plain pandas and NumPy, and Dask alone: `preprocess_over_numpy`;
- `memory`: a source ten times as large as the memory that the process may have: `rss_growth_10x`.

The local store is kept in `.cloudedge/bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import _codecs
from benchmarks._link import limited
from benchmarks._results import ROOT, Target, commit, table, write
from benchmarks._store import local_store

if TYPE_CHECKING:
    from collections.abc import Callable

LINKS = (1, 10, 100, 1000)  # Mbit/s
WORST = "codec_over_best_worst_link"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a part found: metrics, those of them that have a target, and Markdown below the table."""

    metrics: dict[str, float | None]
    targets: dict[str, Target] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def main() -> None:
    """Measure, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("parts", nargs="*", metavar="part", help=f"one of {', '.join(PARTS)}; none: all of them")
    arguments.add_argument("--link", type=int, help=argparse.SUPPRESS)  # in a process of its own, over that link
    found = arguments.parse_args()
    if found.link:
        print(json.dumps(_codecs.deliveries(found.link)))
        return
    if unknown := [name for name in found.parts if name not in PARTS]:
        arguments.error(f"no part is called {unknown[0]!r}; known: {', '.join(PARTS)}")
    measured = commit()
    metrics: dict[str, float | None] = {}
    targets: dict[str, Target] = {}
    lines: list[str] = []
    with local_store():
        for name in found.parts or PARTS:
            say(name)
            part = PARTS[name]()
            metrics |= part.metrics
            targets |= part.targets
            lines += [*part.lines, ""]
    if not found.parts:
        write("data", metrics, targets, lines[:-1], measured)
    print("\n".join([*table(metrics, targets), "", *lines]))


def say(text: str) -> None:
    """Tell what is being measured, on standard error."""
    print(f"... {text}", file=sys.stderr, flush=True)


def codecs() -> Measured:
    """Every codec on three kinds of real and made shards."""
    return Measured({}, lines=_codecs.tables())


def links() -> Measured:
    """Deliveries over each link, in a process of its own, whose store is at the other end of the link."""
    found: list[dict[str, Any]] = []
    for rate in LINKS:
        say(f"link of {rate} Mbit/s")
        with limited(os.environ["AWS_ENDPOINT_URL"], rate) as url:
            command = [sys.executable, "-m", "benchmarks.data", "--link", str(rate)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"AWS_ENDPOINT_URL": url}
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"the link of {rate} Mbit/s failed:\n{done.stderr[-4000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    ratios = {f"codec_over_best_{link['megabits']}_mbit": link["over_best"] for link in found}
    target = Target(1.1, at_least=False)
    missed = [link for link in found if not target.met(link["over_best"])]
    lines = _codecs.delivery_lines(found) + [
        f"\n**Missed:** `{WORST}`: at {link['megabits']:,} Mbit/s the planner takes `{link['chosen']}` by what it"
        f" measured of each codec alone, where `{link['best']}` was the fastest."
        for link in missed
    ]
    return Measured({WORST: max(ratios.values()), **ratios}, {WORST: target}, lines)


def alone(module: str) -> dict[str, float]:
    """What `measure` of a benchmark says in a process of its own."""
    code = f"import json; from benchmarks import {module}; print(json.dumps({module}.measure()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def chosen(module: str, targets: dict[str, Target], about: str, prefix: str) -> Measured:
    """The metrics that have a target, and all that was measured as a list below."""
    found = alone(module)
    rest = [f"| {name} | {value:,.3g} |" for name, value in found.items() if name not in targets]
    lines = [f"**{prefix}.** {about}", "", "| measured | |", "|---|---|", *rest]
    return Measured({name: found[name] for name in targets}, targets, lines)


def transfer() -> Measured:
    """Clients of S3 on the same server."""
    about = (
        "Medians of rounds in which every client does every case; `store` is s3fs with digests, retries and resumption."
    )
    return chosen("transfer", {"s3fs_over_obstore": Target(0.7)}, about, "Transfer")


def encryption() -> Measured:
    """Restricted beside public data."""
    about = "Time spent sealing over all other time of compressing and sending, the worse of two kinds of shards."
    return chosen("encryption", {"encryption_overhead": Target(0.05, at_least=False)}, about, "Encryption")


def preprocess() -> Measured:
    """Our preprocessing beside plain loops."""
    about = "A CSV and an NPY file from the disk to the spool; at least as fast as a plain loop is the target."
    return chosen("preprocess", {"preprocess_over_numpy": Target(1.0)}, about, "Preprocessing")


def memory() -> Measured:
    """Preparing a source under a limit."""
    about = "A process whose data segment may not grow beyond the limit prepares a source as large, and one ten times as large."
    return chosen("memory", {"rss_growth_10x": Target(0.2, at_least=False)}, about, "Memory")


PARTS: dict[str, Callable[[], Measured]] = {
    "codecs": codecs, "links": links, "transfer": transfer, "encryption": encryption, "preprocess": preprocess, "memory": memory,
}  # fmt: skip

if __name__ == "__main__":
    main()
