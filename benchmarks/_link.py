"""A link of a given rate between a client and a server on this machine: a TCP proxy that lets bytes through no faster.

    python -m benchmarks._link <host> <port> <Mbit/s>

It prints the port on which it listens, and runs until it is killed. Each direction has the whole rate, shared by
all connections, as a full-duplex line does. There is no added latency.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE_SECONDS = 0.005  # of the line that one connection takes at a time
BURST_SECONDS = 0.02  # an idle line saves up so much, so that a sleep that lasts too long costs no rate


class Direction:
    """Bytes one way: a token bucket, kept as the time at which the line is free again."""

    def __init__(self, rate: float) -> None:
        """Let through `rate` bytes a second."""
        self.rate = rate
        self.slice = max(1024, int(rate * SLICE_SECONDS))
        self.free = 0.0

    async def wait(self, size: int) -> None:
        """Until the line has carried so many bytes."""
        now = asyncio.get_running_loop().time()
        self.free = max(self.free, now - BURST_SECONDS) + size / self.rate
        if self.free > now:
            await asyncio.sleep(self.free - now)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
    try:
        while data := await reader.read(way.slice):
            await way.wait(len(data))
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # whoever hung up knows
    finally:
        writer.close()


async def serve(host: str, port: int, megabits: float) -> None:
    """Listen on a free port of loopback, and print it."""
    up, down = Direction(megabits * 1e6 / 8), Direction(megabits * 1e6 / 8)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(_pump(reader, back, up), _pump(there, writer, down))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def limited(url: str, megabits: float) -> Iterator[str]:
    """The address of a server on this machine as it is reached over such a link."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "benchmarks._link", str(parts.hostname), str(parts.port), str(megabits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout
            yield f"{parts.scheme}://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
