"""The command `cloudedge lab`."""

from __future__ import annotations

import click


@click.command()
@click.option("--sites", default=4, show_default=True, type=click.IntRange(1, 60), help="Edges beside the cloud.")
@click.option("--speed", default="8:4:2:1", show_default=True, help="Of the edges, in proportion.")
@click.option("--up", default="20,10,5,1", show_default=True, help="Mbit/s from each edge to the store.")
@click.option("--down", default="50", show_default=True, help="Mbit/s from the store to each edge.")
@click.option("--latency", default="40", show_default=True, help="Milliseconds there and back.")
@click.option("--rows", type=click.IntRange(1), help="Of the job.  [default: what takes about --minutes]")
@click.option("--minutes", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Of the job.")
@click.option("--model", default="lab-digits", show_default=True, help="A model of the catalog for digits.")
@click.option("--bound", default=0.005, show_default=True, type=click.FloatRange(0, 1), help="As for `run`.")
@click.option(
    "--fewer", default=20.0, show_default=True, type=click.FloatRange(0),
    help="Times fewer bytes than the raw rows that the plan may send, at least; 0: no limit.",
)  # fmt: skip
@click.option("--cut", multiple=True, metavar="SITE@10s+20s", help="Cut the link of a site for a time.")
@click.option("--kill", multiple=True, metavar="SITE@15s+5s", help="Kill a site's process; start it again after +5s.")
@click.option("--slow", multiple=True, metavar="SITE@10s/4", help="Slow a site down to a fourth.")
@click.option("--corrupt", multiple=True, metavar="SITE@5s", help="Flip a byte of a shard of a site.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
def lab(
    sites: int, speed: str, up: str, down: str, latency: str, rows: int | None, minutes: float, model: str, bound: float,
    fewer: float, cut: tuple[str, ...], kill: tuple[str, ...], slow: tuple[str, ...], corrupt: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Try a job on emulated sites: cloud-only, edge-only, equal split and ours side by side, with faults if wanted.

    Faults befall ours; their times count from its first answers.
    """
    from cloudedge import lab as laboratory

    names = [*(f"ward-{number}" for number in range(1, sites + 1)), laboratory.CLOUD]
    faults = [
        fault
        for kind, texts in (("cut", cut), ("kill", kill), ("slow", slow), ("corrupt", corrupt))
        for fault in laboratory.read_faults(kind, texts, names)
    ]
    wanted = laboratory.Wanted(
        speeds=laboratory.numbers(speed, sites, "--speed", ":"), up=laboratory.numbers(up, sites, "--up"),
        down=laboratory.numbers(down, sites, "--down"), latency=laboratory.numbers(latency, sites, "--latency"),
        rows=rows or max(sites, int(minutes * laboratory.ROWS_A_MINUTE)), model=model, bound=bound, fewer=fewer, faults=tuple(faults),
    )  # fmt: skip
    laboratory.lab(wanted, as_json=as_json)
