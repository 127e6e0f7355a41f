"""Network namespaces as places, each with one link of its own: a veth pair with `tc tbf` at both ends. Needs root.

A namespace is called `cloudedge-<pid>-<number>`, by the process that made it, so that a later laboratory finds what a dead one
left behind.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from os import getpid

from infra.workspace import lives

PREFIX = "cloudedge-"
LEAST_BURST, BURST_SECONDS = 3000, 0.005  # bytes, two packets; what may pass at once, or a small transfer shows no rate
QUEUE_SECONDS = 0.4  # that a packet may wait before it is dropped


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace, and its link to this machine."""

    name: str
    device: str  # of the link, on this machine
    gateway: str  # this machine's address on the link
    held_up: bool  # by the link itself, which has the latency


def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if missing := [program for program in ("ip", "tc", "nsenter") if not shutil.which(program)]:
        return f"there is no `{missing[0]}`"
    name = f"{PREFIX}{getpid()}-x"
    made = _try("ip", "netns", "add", name)
    if made.returncode:
        return f"network namespaces need root ({' '.join(made.stderr.split())[:80]})"
    _ip("netns", "del", name)
    return ""


def make(number: int, up: float, down: float, latency: float) -> Place:
    """A place behind a link.

    Args:
        number: no other place of this process has.
        up: bytes a second from there to here, and
        down: from here to there; infinite: as fast as it goes.
        latency: seconds there and back; `Place.held_up` says whether the kernel can do it.

    Raises:
        OSError: a command failed; says which and why.
    """
    pid = getpid()
    name, here, there = f"{PREFIX}{pid}-{number}", f"ce{pid}h{number}", f"ce{pid}s{number}"
    net = f"10.{200 + pid % 50}.{number}"
    _ip("netns", "add", name)
    _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    _ip("addr", "add", f"{net}.1/30", "dev", here)
    _ip("link", "set", here, "up")
    _ip("-n", name, "addr", "add", f"{net}.2/30", "dev", there)
    _ip("-n", name, "link", "set", there, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    both = (_shape(["tc"], here, down, latency / 2), _shape(["tc", "-n", name], there, up, latency / 2))
    return Place(name, here, f"{net}.1", all(both))


def _shape(tc: list[str], device: str, rate: float, delay: float) -> bool:
    """Bound the rate at one end of a link, and hold what passes up if the kernel can; whether it can."""
    milliseconds = f"{1000 * delay:.3f}ms"
    netem = [
        *tc,
        "qdisc",
        "add",
        "dev",
        device,
        "root",
        "handle",
        "1:",
        "netem",
        "delay",
        milliseconds,
        "limit",
        "10000",
    ]
    held_up = delay > 0 and not _try(*netem).returncode
    if rate < float("inf"):
        where = ["parent", "1:1"] if held_up else ["root"]
        burst = max(LEAST_BURST, int(rate * BURST_SECONDS))
        limit = int(burst + rate * QUEUE_SECONDS)
        _run(
            *tc,
            "qdisc",
            "add",
            "dev",
            device,
            *where,
            "tbf",
            "rate",
            f"{8 * rate:.0f}bit",
            "burst",
            f"{burst}",
            "limit",
            f"{limit}",
        )
    return held_up or delay == 0


def remove(name: str) -> None:
    """Remove a namespace and its link; no error if it is not there."""
    _try("ip", "netns", "del", name)
    pid, _, number = name.removeprefix(PREFIX).partition("-")
    _try("ip", "link", "del", f"ce{pid}h{number}")


def listed() -> list[str]:
    """The names of all places on this machine, whichever laboratory made them."""
    lines = _try("ip", "netns", "list").stdout.splitlines()
    return [line.split()[0] for line in lines if line.startswith(PREFIX)]


def sweep() -> list[str]:
    """Remove the namespaces of processes that are gone; their names."""
    left = [name for name in listed() if not lives(name.removeprefix(PREFIX).partition("-")[0])]
    for name in left:
        remove(name)
    return left


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = _try(*command)
    if done.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())[:200]}")


def _try(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([shutil.which(program) or program, *arguments], capture_output=True, text=True, check=False)
