"""The commands about sites that join: what each did, in a line or a table on standard output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloudedge.site_keys import WIDE, opened
from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, UnknownName
from data_catalog.nouns import Site
from infra import enrolment, settings
from infra.security import pairs
from tasks.probe_site import probe_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_catalog.nouns import Profile
    from infra.storage import Store

LOOK_SECONDS = 1.0  # between two looks whether the coordinator admitted us
BOOTED = Path("/run/systemd/system")  # is there where systemd runs: sd_booted(3)
UNIT = """\
[Unit]
Description=cloudedge site {site}
After=network-online.target
Wants=network-online.target

[Service]
Environment="CLOUDEDGE_HOME={home}"
ExecStart="{python}" -m cloudedge site work {site}
Restart=always
RestartSec=10
# 2: it was removed, or off for a week; somebody has to act
RestartPreventExitStatus=2
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy={target}
"""


def invite(site: str, tier: str, threads: int, days: float, catalog: Sequence[Path]) -> None:
    """Print a token for a site, and what to do with it."""
    found = settings.read_settings()
    entries = Catalog([*(folder.absolute() for folder in catalog), *found.catalog_folders])
    try:
        entry = entries.site(site)
    except UnknownName:
        try:
            entry = Site.model_validate({"name": site, "tier": tier, "threads": threads})
        except ValueError as error:
            raise BadInput(f"{site!r} is no name of a site: small letters, digits and hyphens, 63 at most") from error
    with opened() as (store, home):
        token = enrolment.invite(store, home, entry, days * 24 * 3600)
    sys.stdout.write(f"{token}\n")
    sys.stderr.write(
        f"On the machine that is to be {site}: cloudedge site join TOKEN. Who has the token can join once, within"
        f" {days:g} days: hand it over as you would a password. `cloudedge site list` here admits it.\n"
    )


def join(text: str, wait: float, start: bool) -> None:
    """Make this machine a site, and say how far it came."""
    token, home = enrolment.read_token(text), settings.read_settings().home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = pairs.folder(home, token.site)
    measured: list[Profile] = []

    def measure(store: Store, site: str) -> Profile:
        measured.append(probe_machine(store, site, folder))
        return measured[-1]

    member = enrolment.join(home, token, version("cloudedge"), measure)
    sys.stdout.write(f"{token.site} has a key pair in {folder}, and is registered\n")
    sys.stdout.writelines(
        f"measured: {found.cores} cores, {found.memory_bytes / 1e9:.1f} GB of memory, {found.disk_free_bytes / 1e9:.1f} GB of"
        f" disk free; link {_rate(found.up_bytes_per_second)} up, {_rate(found.down_bytes_per_second)} down\n"
        for found in measured
    )
    unit = _write_unit(home, token.site)
    sys.stdout.write(f"the systemd unit is {unit}\n")
    if start:
        sys.stdout.write(f"{_start(home, token.site, unit)}\n")
    sys.stdout.flush()
    deadline = time.monotonic() + wait
    while not (admitted := enrolment.is_admitted(home, member)) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    sys.stdout.write(
        f"{token.site} is admitted\n"
        if admitted
        else f"{token.site} waits to be admitted: by `cloudedge site list` at the coordinator, or by its next run\n"
    )


def show(as_json: bool) -> None:
    """Print the sites that joined or are invited."""
    with opened() as (store, home):
        admitted = enrolment.admit_waiting(store, home)
        lines = enrolment.list_sites(store)
    if as_json:
        sys.stdout.write(json.dumps([asdict(line) for line in lines], indent=2) + "\n")
        return
    sys.stdout.writelines(f"{name} is admitted\n" for name in admitted)
    if not lines:
        sys.stdout.write("no site joined; `cloudedge site invite NAME` makes a token for a machine\n")
        return
    table = Table(box=None, pad_edge=False)
    for name in (
        "site",
        "state",
        "machine",
        "version",
        "last seen",
        "doing",
        "measured",
        "up",
        "down",
        "mailbox until",
    ):
        table.add_column(name)
    for line in lines:
        table.add_row(
            line.name, line.state, line.host or "-", line.version or "-", _ago(line.seen), line.doing or "-",
            _ago(line.profile), _rate(line.up_bytes_per_second), _rate(line.down_bytes_per_second),
            "-" if line.access is None else f"in {_span(line.access)}",
        )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDE).print(table)


def renew() -> None:
    """Renew every site's access to its mailbox, and say what else there was."""
    with opened() as (store, home):
        lines = enrolment.renew(store, home)
    sys.stdout.write("\n".join(lines or ["no site joined"]) + "\n")


def drain(site: str, undo: bool) -> None:
    """Drain a site, or give it work again."""
    with opened() as (store, _):
        enrolment.drain(store, site, undo)
    sys.stdout.write(
        f"{site} gets {'work again' if undo else 'no new work: a run that names it, or needs it, is refused'}\n"
    )


def remove(site: str) -> None:
    """Remove a site, and say what it can still do."""
    with opened() as (store, home):
        until = enrolment.remove(store, home, site)
    sys.stdout.write(
        f"{site} is removed; its keys open nothing new. What was signed for it, its own shards, models and results, it can"
        f" read or write for another {_span(until - time.time())} at most; to end that now, change the store's credentials\n"
    )


def _write_unit(home: Path, site: str) -> Path:
    """A systemd unit in the site's folder: of the user, or of the system if this is root."""
    path = pairs.folder(home, site) / f"cloudedge-site-{site}.service"
    target = "multi-user.target" if os.geteuid() == 0 else "default.target"
    path.write_text(UNIT.format(site=site, home=home, python=sys.executable, target=target))
    return path


def _start(home: Path, site: str, unit: Path) -> str:
    """Start the site's process: by systemd if it runs here, else in the background of this machine until it restarts."""
    if shutil.which("systemctl") and BOOTED.is_dir():
        system = ["systemctl"] if os.geteuid() == 0 else ["systemctl", "--user"]
        for command in ([*system, "link", "--force", str(unit)], [*system, "enable", "--now", unit.name]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BadInput(
                    f"`{' '.join(command)}` failed ({' '.join(done.stderr.split())[:200]}); mend that and join again"
                )
        return f"started by systemd: {' '.join([*system, 'status', unit.name])}"
    log = home / "logs" / f"site-{site}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudedge", "site", "work", site], stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    return f"started as process {process.pid}, without systemd: not again after a restart of this machine; its log is {log}"


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{_span(seconds)} ago"


def _rate(bytes_per_second: float | None) -> str:
    return "-" if bytes_per_second is None else f"{8 * bytes_per_second / 1e6:,.1f} Mbit/s"


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
