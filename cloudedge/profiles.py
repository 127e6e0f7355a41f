"""`cloudedge site profiles`: what was measured of the sites, with its spread, as tables and a picture."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloudedge.site_keys import WIDE, opened
from data_catalog.errors import StoreFull
from infra import sites
from infra.report import profile_chart

if TYPE_CHECKING:
    from pathlib import Path


def show(picture: Path | None, *, as_json: bool) -> None:
    """Print the profiles of all sites, and draw them.

    Args:
        picture: where the SVG is written; None: in the home.
        as_json: print JSON instead of the tables.

    Raises:
        CloudEdgeError: a profile cannot be read, or the picture not be written.
    """
    with opened() as (store, home):
        found = sites.profiles(store)
    path = picture or home / "profiles.svg"
    if found:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(profile_chart.picture(found))
        except OSError as error:
            raise StoreFull(f"{path} cannot be written ({error}); name another file with --picture") from error
    if as_json:
        listed = [profile.model_dump() for profile in found]
        sys.stdout.write(json.dumps({"profiles": listed, "picture": str(path) if found else None}, indent=2) + "\n")
        return
    if not found:
        sys.stdout.write("no site was measured yet: a run measures those that take part\n")
        return
    console, now = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE), time.time()
    for title, rows in (
        ("sites", profile_chart.site_rows(found, now)),
        ("variants, one thread", profile_chart.speed_rows(found, now)),
    ):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in rows[0] if rows else ():
            table.add_column(name, justify="left" if name in {"site", "machine", "variant", "runtime"} else "right")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
        console.print()
    console.print(f"picture: {path}", soft_wrap=True)
