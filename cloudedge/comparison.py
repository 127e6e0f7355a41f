"""`cloudedge codecs`: every codec on real shards of a dataset, and which is the right one for which link."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from data_catalog.catalog import Catalog
from data_catalog.errors import StoreFull, UnknownName
from infra import codec_trials
from infra.report.codec_chart import deliveries, steps
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

LINKS = {f"{rate:,} Mbit/s": rate * 1e6 / 8 for rate in (1, 10, 100, 1000)}  # bytes a second
PATIENCE = 0.3  # seconds for each codec: a person waits


def compare(dataset: str, source: str, catalog: Sequence[Path], picture: Path | None, *, as_json: bool) -> None:
    """Measure every codec on a shard of the dataset, prepared as a run would; print a table, draw a picture.

    Args:
        dataset: a dataset of the catalog.
        source: one of its sources; empty: the first.
        catalog: folders to look in first.
        picture: where the SVG is written; None: in the home.
        as_json: print JSON instead of the table.

    Raises:
        CloudEdgeError: the dataset cannot be read, or the picture not be written.
    """
    settings = read_settings()
    entry = Catalog([*(folder.absolute() for folder in catalog), *settings.catalog_folders]).dataset(
        dataset, "--dataset"
    )
    names = [known.name for known in entry.sources]
    if source and source not in names:
        raise UnknownName.among("source", source, names, "--source")
    chosen = entry.source(source or names[0])
    with tempfile.TemporaryDirectory(prefix="cloudedge-") as folder:
        plain = codec_trials.first_shard(entry, chosen, Path(folder))
    trials = codec_trials.measure(plain, PATIENCE)
    best = {name: codec_trials.choose(trials.tried, link).codec for name, link in LINKS.items()}
    path = picture or settings.home / "codecs" / f"{dataset}.svg"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(deliveries(dataset, trials.tried, LINKS))
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); name another file with --picture") from error
    if as_json:
        _print_json(dataset, chosen.name, plain, trials, best, path)
    else:
        _print_table(dataset, chosen.name, plain, trials, best, path)


def _print_json(
    dataset: str, source: str, plain: bytes, trials: codec_trials.Trials, best: dict[str, str], path: Path
) -> None:
    codecs = [
        trial.model_dump() | {"seconds_a_gigabyte": {name: max(steps(trial, link).values()) for name, link in LINKS.items()}}
        for trial in trials.tried
    ]  # fmt: skip
    found = {"dataset": dataset, "source": source, "sample_bytes": len(plain), "codecs": codecs, "best": best}
    sys.stdout.write(json.dumps(found | {"left_out": trials.left_out, "picture": str(path)}, indent=2) + "\n")


def _print_table(
    dataset: str, source: str, plain: bytes, trials: codec_trials.Trials, best: dict[str, str], path: Path
) -> None:
    console = Console(highlight=False)
    table = Table(
        title=f"{dataset}, source {source}: a shard of {len(plain):,} bytes, one core; every codec gave it back exactly",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    table.add_column("codec", no_wrap=True)
    for name in ("ratio", "compress MB/s", "decompress MB/s", *LINKS):
        table.add_column(name, justify="right")
    for trial in sorted(trials.tried, key=lambda trial: -trial.ratio):
        cells = []
        for name, link in LINKS.items():
            seconds = f"{max(steps(trial, link).values()):,.1f}"
            cells.append(f"[bold green]{seconds}[/]" if best[name] == trial.codec else seconds)
        speeds = (trial.compress_bytes_per_second, trial.decompress_bytes_per_second)
        table.add_row(trial.codec, f"{trial.ratio:.2f}", *(_speed(rate) for rate in speeds), *cells)
    console.print(table)
    console.print(
        "\nUnder the links: seconds to deliver a gigabyte of such shards, the slowest of three overlapped steps."
    )
    console.print("best: " + ", ".join(f"{codec} for {name}" for name, codec in best.items()))
    for name, why in trials.left_out.items():
        console.print(f"left out: {name} {why}", soft_wrap=True)
    console.print(f"picture: {path}", soft_wrap=True)


def _speed(bytes_per_second: float) -> str:
    """MB/s; nothing where there is nothing to do."""
    rate = bytes_per_second / 1e6
    return "-" if rate > 100_000 else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"
