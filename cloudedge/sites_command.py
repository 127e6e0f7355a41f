"""The commands of `cloudedge site`."""

from __future__ import annotations

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
