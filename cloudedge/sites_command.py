"""The commands of `cloudedge site`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def site() -> None:
    """Be a site, or look after the sites that are processes of their own."""


@site.command("work")
@click.argument("site")
def work(site: str) -> None:
    """Be the process of SITE: look into its mailbox and do what is asked, until ended.

    It needs the store (CLOUDEDGE_BUCKET and AWS_*, or the home of `cloudedge up`) and reaches nothing else. A machine that
    joined needs no credentials.
    """
    from cloudedge import site_work

    site_work.work(site)


@site.command("profiles")
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw.  [default: in the home]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
def profiles(picture: Path | None, as_json: bool) -> None:
    """Show what was measured of the sites: links and speeds, with their spread and age."""
    from cloudedge.profiles import show

    show(picture, as_json=as_json)


@site.command("invite")
@click.argument("site")
@click.option("--tier", default="edge", show_default=True, type=click.Choice(["edge", "cloud"]), help="Of a new site.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 256), help="Of a new site.")
@click.option(
    "--days",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 7, min_open=True),
    help="For which the token is good.",
)
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder whose sites/ may describe SITE; repeat it.",
)
def invite(site: str, tier: str, threads: int, days: float, catalog: tuple[Path, ...]) -> None:
    """Print a token with which one machine can join as SITE.

    A site of the catalog keeps what its entry says; of another one the options say it.
    """
    from cloudedge import joining

    joining.invite(site, tier, threads, days, catalog)


@site.command("join")
@click.argument("token")
@click.option("--wait", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds, until admitted.")
@click.option(
    "--start/--no-start", default=True, show_default=True, help="Start the site's process, by systemd if it runs."
)
def join(token: str, wait: float, start: bool) -> None:
    """Make this machine the site of TOKEN: keys, a measurement, registration, a systemd unit; then start it."""
    from cloudedge import joining

    joining.join(token, wait, start=start)


@site.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
def list_sites(as_json: bool) -> None:
    """Admit the machines that registered, and show the sites that joined or are invited."""
    from cloudedge import joining

    joining.show(as_json=as_json)


@site.command("renew")
def renew() -> None:
    """Admit who registered, let every site read its mailbox for another week, take in what came late.

    Call it once a day, where no run does it.
    """
    from cloudedge import joining

    joining.renew()


@site.command("drain")
@click.argument("site")
@click.option("--undo", is_flag=True, help="Give it work again.")
def drain(site: str, undo: bool) -> None:
    """Give SITE no new work; it finishes what it has."""
    from cloudedge import joining

    joining.drain(site, undo=undo)


@site.command("remove")
@click.argument("site")
def remove(site: str) -> None:
    """Take SITE's place, its mailbox and its keys away."""
    from cloudedge import joining

    joining.remove(site)
