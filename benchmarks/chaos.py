"""A hundred random moments at which somebody dies, stops or is cut off, two in each run: what became of the rows.

See `tests/disasters.py` for the processes. After each moment whoever started the victim starts it again, and a run that
it ended is run again; then all rows are compared with those of a run that nothing befell.

    python -m benchmarks.chaos [--kills N] [--seed N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._results import ROOT, Target, commit, replace_block, write
from tests import disasters

COUNTED = ("kills", "runs_again", "lost", "repeated", "differing", "recomputed_max_per_worker")
TARGETS = {
    "kills": Target(100),
    "lost": Target(0, at_least=False),
    "repeated": Target(0, at_least=False),
    "differing": Target(0, at_least=False),
    "recomputed_max_per_worker": Target(1, at_least=False),
}
PAGE = ROOT / "docs" / "reliability.md"


def measure(outcomes: list[disasters.Outcome], undisturbed: float) -> tuple[dict[str, float | bool | None], list[str]]:
    """The metrics and what is said beside them; pure."""
    by_victim = disasters.summary(outcomes)
    metrics: dict[str, float | bool | None] = {
        "kills": sum(found["kills"] for found in by_victim.values()),
        "runs_again": sum(len(outcome.errors) for outcome in outcomes),
        "lost": sum(outcome.lost for outcome in outcomes),
        "repeated": sum(outcome.repeated for outcome in outcomes),
        "differing": sum(outcome.differing for outcome in outcomes),
        "recomputed_max_per_worker": max(outcome.recomputed_by_worker for outcome in outcomes),
        "recomputed": sum(outcome.recomputed for outcome in outcomes),
    }
    for victim, found in by_victim.items():
        metrics |= {f"{name}.{victim.replace(' ', '_')}": found[name] for name in COUNTED}
    lines = [
        f"{sum(len(o.moments) for o in outcomes)} moments, {int(metrics['kills'] or 0)} of them while the run was under way. A run that nothing befalls"
        f" takes {undisturbed:.1f} s, one in which something does {statistics.median(o.seconds for o in outcomes):.1f} s in the"
        f" median and {max(o.seconds for o in outcomes):.1f} s at most, until its rows are complete.",
        "",
        "| victim | struck | runs that had to be run again | rows lost | repeated | other than undisturbed | shards computed twice, at most, of one worker |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {victim} | " + " | ".join(f"{found[name]:.0f}" for name in COUNTED) + " |"
            for victim, found in by_victim.items()
        ),
    ]
    return metrics, lines


def main() -> None:
    """Play the moments, and record what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--kills", type=int, default=100, help="moments that strike a run under way; some come after its end"
    )
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    measured = commit()
    outcomes: list[disasters.Outcome] = []
    with tempfile.TemporaryDirectory() as folder, disasters.world(Path(folder)) as place:
        sys.stdout.write(f"undisturbed: {place.seconds:.1f} s, {place.undisturbed.num_rows} rows\n")
        for outcome in disasters.rounds(place, chosen.kills, chosen.seed, 2):
            outcomes.append(outcome)
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {len(outcomes)} {outcome}\n")
            sys.stdout.flush()
        metrics, lines = measure(outcomes, place.seconds)
    write("chaos", metrics, TARGETS, lines, measured)
    replace_block(PAGE, "chaos", "\n".join(lines))


if __name__ == "__main__":
    main()
