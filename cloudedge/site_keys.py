"""The commands of `cloudedge keys`: what each did, in a line or a table on standard output."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from infra import settings
from infra.security import rotation
from infra.stack import using_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.storage import Store

SHOWN = 12  # digits of an id
WIDE = 200  # columns where nobody looks


@contextmanager
def opened() -> Iterator[tuple[Store, Path]]:
    """The store, started if none is configured, and the home; Prefect is not started for it."""
    found = settings.read_settings()
    with using_stack(replace(found, prefect_api_url=found.prefect_api_url or "not needed")):
        from infra.storage import open_store

        yield open_store(), found.home


def show() -> None:
    """Print the sites with keys, and the data keys with those who can open them."""
    with opened() as (store, home):
        sites, data_keys = rotation.list_keys(store, home)
    if not sites and not data_keys:
        sys.stdout.write("no site has keys: they are made when a restricted dataset is run\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    table = Table(title="sites", title_justify="left", box=None, pad_edge=False)
    for name in ("site", "key pair", "private key", "data keys"):
        table.add_column(name)
    for site in sites:
        here = "on this machine" if site.private_key_here else "not on this machine"
        table.add_row(site.site, site.pair[:SHOWN] or "none", here, f"{site.data_keys}")
    console.print(table)
    if not data_keys:
        return
    console.print()
    table = Table(title="data keys", title_justify="left", box=None, pad_edge=False)
    for name in ("key", "of", "can be opened by"):
        table.add_column(name)
    for key in data_keys:
        table.add_row(key.key_id[-SHOWN:], key.what, ", ".join(key.sites))
    console.print(table)


def rotate(site: str) -> None:
    """Rotate a site's pair and say so."""
    with opened() as (store, home):
        count = rotation.rotate(store, home, site)
    sys.stdout.write(f"{site} has a new key pair; data keys wrapped to it: {count}\n")


def shred(site: str) -> None:
    """Shred a site's keys and say so."""
    with opened() as (store, home):
        count = rotation.shred(store, home, site)
    sys.stdout.write(f"{site} has no keys any more; data keys that it could open: {count}\n")
