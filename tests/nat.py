"""Places behind NAT: a namespace, and a router namespace before it that masquerades and lets nothing in. Needs root.

All places have the same private address, as homes do. This machine is the internet: it has no route to them, and sees
whoever comes out under the router's address.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra.emulation.namespaces import PREFIX, why_not

PRIVATE = "192.168.77"
RULES = """
table ip cloudedge {
    chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "lan" oifname "wan" accept
    }
    chain to { type filter hook input priority filter; policy drop; ct state established,related accept; iifname "lan" accept; }
}
"""


@dataclass(frozen=True)
class Place:
    """A namespace, and the router before it."""

    name: str
    router: str
    inside: str  # its own address, that means nothing outside
    outside: str  # the router's
    internet: str  # this machine's address, at the other end

    def within(self, *command: str) -> list[str]:
        """The command, to be run there; not `ip netns exec`, which hides the control groups."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def run(self, *command: str, wants: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a short command there, and require its exit code."""
        done = subprocess.run(self.within(*command), capture_output=True, text=True, check=False)
        assert wants is None or done.returncode == wants, done.stderr
        return done

    def python(self, code: str, **more: int | None) -> subprocess.CompletedProcess[str]:
        """Run a line of Python there."""
        return self.run(sys.executable, "-c", code, **more)


def why_no_nat() -> str:
    """Why there can be none here; empty if there can."""
    return why_not() or ("" if shutil.which("nft") else "there is no `nft`")


@contextmanager
def behind_nat(count: int) -> Iterator[list[Place]]:
    """So many places, each behind a router of its own; all is taken down at the end."""
    pid = os.getpid()
    made = [
        Place(f"{PREFIX}{pid}-site{n}", f"{PREFIX}{pid}-router{n}", f"{PRIVATE}.2", f"10.199.{n}.2", f"10.199.{n}.1")
        for n in range(1, count + 1)
    ]
    try:
        for place in made:
            _lay(place)
        yield made
    finally:
        for place in made:
            for name in (place.name, place.router):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _lay(place: Place) -> None:
    """Make both namespaces, and the links from the one to the other and from there to this machine."""
    here = f"cn{os.getpid()}h{place.internet.split('.')[2]}"
    router, site = ("-n", place.router), ("-n", place.name)
    for words in (
        ("netns", "add", place.router),
        ("netns", "add", place.name),
        ("link", "add", here, "type", "veth", "peer", "name", "wan", "netns", place.router),
        ("addr", "add", f"{place.internet}/30", "dev", here),
        ("link", "set", here, "up"),
        (*router, "addr", "add", f"{place.outside}/30", "dev", "wan"),
        (*router, "link", "set", "wan", "up"),
        (*router, "route", "add", "default", "via", place.internet),
        (*router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", place.name),
        (*router, "addr", "add", f"{PRIVATE}.1/24", "dev", "lan"),
        (*router, "link", "set", "lan", "up"),
        (*site, "addr", "add", f"{place.inside}/24", "dev", "eth0"),
        (*site, "link", "set", "eth0", "up"),
        (*site, "link", "set", "lo", "up"),
        (*site, "route", "add", "default", "via", f"{PRIVATE}.1"),
    ):
        _run("ip", *words)
    enter = ("nsenter", f"--net=/run/netns/{place.router}")
    _run(*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    _run(*enter, "nft", "-f", "-", text=RULES)


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
