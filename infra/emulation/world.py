"""Emulated sites: each a process of its own, behind a link of its own, with a share of a core."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from infra.emulation import namespaces, speeds
from infra.settings import inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

PR_SET_PDEATHSIG = 1
INFINITE = float("inf")
AGAIN_SECONDS = 1.0  # until a process that ended is started again


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a site is to be like; rates in bytes a second, latency in seconds there and back."""

    name: str
    share: float  # of a core, or several
    up: float = INFINITE
    down: float = INFINITE
    latency: float = 0.0

    @property
    def linked(self) -> bool:
        """Whether there is anything between the site and the store."""
        return self.up < INFINITE or self.down < INFINITE or self.latency > 0


@dataclass(frozen=True, slots=True)
class Means:
    """How this machine emulates."""

    links: str
    latency: str
    speed: str


class Emulated:
    """One site: its process, its relay, its share of a core."""

    def __init__(self, spec: Spec, home: Path, variables: Mapping[str, str], parent: Executor) -> None:
        """Nothing runs yet; `parent` has the one thread that starts processes, and with which they die."""
        self.spec, self.home, self._parent = spec, home, parent
        self.place: namespaces.Place | None = None
        self.group: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.link: subprocess.Popen[bytes] | None = None
        self.share: float | None = None  # None: as fast as the machine
        self.core: int | None = None  # for all its threads
        self.program = [sys.executable, "-m", "cloudedge"]
        self._variables = dict(variables)
        self._changing = threading.Lock()  # its process
        home.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start the site's process; if it ends by itself it is started again, as systemd would."""
        command = [*self.program, "site", "work", self.spec.name]
        if self.place:
            # not `ip netns exec`, which hides the control groups from the process
            command = ["nsenter", f"--net=/run/netns/{self.place.name}", *command]
        if self.group:
            into = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
            command = ["sh", "-c", into, str(self.group), *command]
        with (self.home / "site.log").open("ab") as log:
            self.process = self._parent.submit(_child, command, self._variables, stderr=log).result()
        self._pin()
        threading.Thread(target=self._hold, args=(self.process,), name=f"hold {self.spec.name}", daemon=True).start()

    def _hold(self, process: subprocess.Popen[bytes]) -> None:
        """Start another process when this one has ended, unless it was killed."""
        process.wait()
        time.sleep(AGAIN_SECONDS)
        with self._changing:
            if process is self.process:
                self.start()

    def kill(self) -> None:
        """End the process at once, as `kill -9` does; the next one is started by `start`."""
        with self._changing:
            process, self.process = self.process, None
        if process:
            process.kill()
            process.wait()

    def set_share(self, share: float | None) -> None:
        """Give it so much of a core from now on; None: as much as there is."""
        self.share = share
        if self.group:
            speeds.limit(self.group, share)
            self._pin()

    def _pin(self) -> None:
        """Keep a site with a quota on its core: of what its threads on two cores get, the kernel lets much expire."""
        if self.process and self.core is not None:
            speeds.pin(self.process.pid, None if self.share is None else self.core)

    def cut(self, *, off: bool) -> None:
        """Cut the link, or mend it: while it is cut nothing passes, and nobody is told."""
        if self.link:
            self.link.send_signal(signal.SIGSTOP if off else signal.SIGCONT)

    def passed(self) -> tuple[int, int]:
        """Bytes that went over the link so far, up and down, requests and headers and polls included."""
        with suppress(OSError, ValueError):
            up, down = (self.home / "passed").read_text().split()
            return int(up), int(down)
        return 0, 0

    def lay(self, store: str, place: namespaces.Place | None, held_up: bool) -> None:
        """Put a relay between the site and the store at `host:port`.

        Args:
            store: its address.
            place: where the site is, if its link has the rates; else the relay has them.
            held_up: whether the link has the latency too.
        """
        self.place = place
        rates = (INFINITE, INFINITE) if place else (self.spec.up, self.spec.down)
        latency = 0.0 if held_up else self.spec.latency
        command = [sys.executable, "-m", "infra.emulation.relay", f"{place.gateway if place else '127.0.0.1'}:0", store]
        command += [*map(str, rates), str(latency), *([place.device] if place else [])]
        with (self.home / "relay.log").open("ab") as log:
            self.link = self._parent.submit(_child, command, {}, stderr=log, talk=True).result()
        assert self.link.stdin
        assert self.link.stdout
        self.link.stdin.write(f"{self.home / 'passed'}\n".encode())
        self.link.stdin.close()
        port = self.link.stdout.readline().decode().strip()
        if not port:
            raise OSError(f"the relay of {self.spec.name} did not start; its log is {self.home / 'relay.log'}")
        self._variables["AWS_ENDPOINT_URL"] = f"http://{place.gateway if place else '127.0.0.1'}:{port}"

    def end(self) -> None:
        """End both processes."""
        self.kill()
        if self.link and self.link.poll() is None:
            self.link.kill()
            self.link.wait()


@contextmanager
def emulated(
    specs: Sequence[Spec], store_url: str, home: Path, variables: Mapping[str, str]
) -> Iterator[tuple[dict[str, Emulated], Means]]:
    """The sites, started, at the machine's full speed; everything is taken down at the end.

    Args:
        specs: of the sites.
        store_url: where the store listens, on loopback.
        home: each site gets a folder in it, as its own `CLOUDEDGE_HOME`.
        variables: for the sites' processes.

    Yields:
        The sites by name, and how they are emulated.
    """
    root, why_not = speeds.group_root(), namespaces.why_not()
    if root:
        speeds.sweep(root)
    if not why_not:
        namespaces.sweep()
    sites: dict[str, Emulated] = {}
    in_links = not why_not
    cores = speeds.cores({spec.name: spec.share for spec in specs})
    with ExitStack() as stack:
        parent = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="parent"))
        for number, spec in enumerate(specs):
            own = {"CLOUDEDGE_HOME": str(home / spec.name), "CLOUDEDGE_HOST": spec.name, "AWS_ENDPOINT_URL": store_url}
            site = sites[spec.name] = Emulated(spec, home / spec.name, {**variables, **own}, parent)
            if root:
                site.core = cores[spec.name]
                site.group = speeds.make_group(root, spec.name)
                stack.callback(speeds.remove_group, site.group)
            else:
                pid, share = _pid_of(site), _share_of(site)
                stack.callback(speeds.take_turns(pid, share))
            stack.callback(site.end)
            if spec.linked:
                place = None
                if not why_not:
                    stack.callback(namespaces.remove, f"{namespaces.PREFIX}{os.getpid()}-{number}")
                    place = namespaces.make(number, spec.up, spec.down, spec.latency)
                in_links = in_links and bool(place and place.held_up)
                site.lay(store_url.removeprefix("http://"), place, bool(place and place.held_up))
            site.start()
        yield (
            sites,
            Means(
                links=f"a token bucket in a relay ({why_not})"
                if why_not
                else "tc tbf in a network namespace for each site",
                latency="tc netem"
                if in_links
                else "a relay that holds back (this kernel has no netem, or there are no namespaces)",
                speed="quota of a control group" if root else "stopped and continued in turn (no control groups here)",
            ),
        )


def _pid_of(site: Emulated) -> Callable[[], int | None]:
    def pid() -> int | None:
        process = site.process
        return process.pid if process and process.poll() is None else None

    return pid


def _share_of(site: Emulated) -> Callable[[], float | None]:
    return lambda: site.share


def _child(
    command: list[str], extra: Mapping[str, str], *, stderr: IO[bytes], talk: bool = False
) -> subprocess.Popen[bytes]:
    """A process that dies with this thread (on Linux), and does not hear Ctrl-C."""
    libc = ctypes.CDLL(None)

    def alone() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.platform == "linux":
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    clean = {name: value for name, value in inherited().items() if not name.startswith("PREFECT_")}
    pipe = subprocess.PIPE if talk else subprocess.DEVNULL
    return subprocess.Popen(
        command, env=clean | dict(extra), stdin=pipe, stdout=pipe, stderr=stderr, cwd="/", preexec_fn=alone
    )
