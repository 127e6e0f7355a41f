"""A link that fails: a TCP proxy on loopback between a client and a store, with faults that are aimed at requests.

It knows just enough of HTTP to see where a request begins, because a client sends the next one after the answer.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to one request; offsets are in bytes of that request or of its answer, headers included."""

    cut_up: int | None = None  # the connection breaks when so much was sent to the store
    cut_down: int | None = None  # ... when so much of the answer came back
    status: int | None = None  # the proxy answers this itself,
    code: str = "InternalError"  # and as S3 does
    flip_up: int | None = None  # the byte there is another one
    flip_down: int | None = None
    stall_up: bool = False  # nothing more is taken from the client
    stall_down: bool = False  # the answer never comes


@dataclass
class Request:
    """What went over the link for one request."""

    line: str  # method and target
    waits: bool = False  # with its body, until the store says that it is welcome
    up: int = 0
    down: int = 0


@dataclass
class Link:
    """The proxy: its address, what it does to a request, and what it saw."""

    url: str
    fault: Callable[[str], Fault | None] = lambda line: None
    requests: list[Request] = field(default_factory=list)

    def seen(self, pattern: str) -> list[Request]:
        """The requests whose method and target fit."""
        return [request for request in self.requests if re.search(pattern, request.line)]

    def forget(self) -> None:
        """See as if nothing had happened so far."""
        self.requests = []


METHOD = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1.1\r\n")


@contextmanager
def link(store_url: str) -> Iterator[Link]:
    """A proxy in front of the store at that address."""
    host, _, port = store_url.removeprefix("http://").partition(":")
    listening = socket.create_server(("127.0.0.1", 0))
    made = Link(f"http://127.0.0.1:{listening.getsockname()[1]}")
    closed = threading.Event()
    open_sockets: set[socket.socket] = set()

    def serve() -> None:
        while not closed.is_set():
            try:
                client, _ = listening.accept()
                server = socket.create_connection((host, int(port)))
            except OSError:
                return
            open_sockets.update((client, server))
            threading.Thread(target=_talk, args=(made, client, server, closed), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield made
    finally:
        closed.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for each in open_sockets:
            _break(each)


def _talk(made: Link, client: socket.socket, server: socket.socket, closed: threading.Event) -> None:
    """Pass on what a client says to the store, and back, until the fault or the end of the connection."""
    now: list[tuple[Request, Fault]] = [(Request(""), Fault())]

    def back() -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                request, fault = now[0]
                while fault.stall_down and not closed.is_set():
                    time.sleep(0.05)
                data = _flipped(data, fault.flip_down, request.down)
                left = len(data) if fault.cut_down is None else max(fault.cut_down - request.down, 0)
                client.sendall(data[:left])
                request.down += min(left, len(data))
                if left < len(data):
                    break
        _break(client, server)

    threading.Thread(target=back, daemon=True).start()
    with suppress(OSError):
        while data := client.recv(1 << 16):
            if begins := METHOD.match(data):
                line = f"{begins[1].decode()} {begins[2].decode()}"
                waits = b"100-continue" in data.partition(b"\r\n\r\n")[0].lower()
                now[0] = (Request(line, waits), made.fault(line) or Fault())
                made.requests.append(now[0][0])
            request, fault = now[0]
            if fault.status:
                body = re.search(rb"(?i)\r\ncontent-length: (\d+)", data)
                missing = (int(body[1]) if body else 0) - len(data.partition(b"\r\n\r\n")[2])
                if b"100-continue" in data.lower():  # the body waits for a leave that it will not get
                    missing = 0
                while missing > 0:
                    missing -= len(client.recv(1 << 16))
                says = f"<Error><Code>{fault.code}</Code><Message>{fault.code}, says the proxy</Message></Error>"
                head = f"HTTP/1.1 {fault.status} Failed\r\nContent-Length: {len(says)}\r\nConnection: close\r\n\r\n"
                client.sendall((head + says).encode())
                break
            left = len(data) if fault.cut_up is None else max(fault.cut_up - request.up, 0)
            server.sendall(_flipped(data, fault.flip_up, request.up)[:left])
            request.up += min(left, len(data))
            if left < len(data):
                break
            while fault.stall_up and not closed.is_set():
                time.sleep(0.05)
    _break(client, server)


def _flipped(data: bytes, at: int | None, passed: int) -> bytes:
    """The data with a bit of the byte at that offset of the whole flipped, if it is in here."""
    if at is None or not passed <= at < passed + len(data):
        return data
    changed = bytearray(data)
    changed[at - passed] ^= 1
    return bytes(changed)


def _break(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
