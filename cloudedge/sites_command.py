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

    It needs the store (CLOUDEDGE_BUCKET and AWS_*, or the home of `cloudedge up`) and reaches nothing else.
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
