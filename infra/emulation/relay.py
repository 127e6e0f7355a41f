"""A relay between a site and the store: passes bytes on, late and no faster than the link.

Run as `python -m infra.emulation.relay LISTEN TO UP DOWN LATENCY [DEVICE]`: two addresses `host:port`, two rates in bytes a second
(`inf`: as fast as they come), seconds there and back. It prints its port. It counts the bytes both ways, and writes
`up down` into the file that standard input names, twice a second. Stopped (SIGSTOP), it is a link that is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra.emulation.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 4096  # bytes: at 1 Mbit/s 33 ms
UNDER_WAY = 64  # chunks that one connection may have between both ends
COUNT_SECONDS = 0.5
SO_BINDTODEVICE = 25  # Linux


async def relay(
    listening: socket.socket, to: tuple[str, int], up: float, down: float, latency: float, kept: Path
) -> None:
    """Serve until the process is ended."""
    buckets = {"up": Bucket(up), "down": Bucket(down)}
    passed = {"up": 0, "down": 0}

    async def talk(site: asyncio.StreamReader, to_site: asyncio.StreamWriter) -> None:
        try:
            store, to_store = await asyncio.open_connection(*to)
        except OSError:
            to_site.close()
            return
        await asyncio.gather(
            _pump(site, to_store, buckets["up"], latency / 2, lambda n: passed.update(up=passed["up"] + n)),
            _pump(store, to_site, buckets["down"], latency / 2, lambda n: passed.update(down=passed["down"] + n)),
        )

    async with await asyncio.start_server(talk, sock=listening, limit=2 * CHUNK):
        while True:
            unfinished = kept.with_suffix(".tmp")
            unfinished.write_text(f"{passed['up']} {passed['down']}")
            unfinished.rename(kept)
            await asyncio.sleep(COUNT_SECONDS)
            if os.getppid() == 1:  # the laboratory was killed
                return


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    bucket: Bucket,
    delay: float,
    count: Callable[[int], None],
) -> None:
    """Pass on what comes, each chunk when the bucket lets it and the delay is over."""
    clock = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)

    async def deliver() -> None:
        broken = False
        while True:
            due, data = await under_way.get()
            if not data:
                break
            await asyncio.sleep(due - clock())
            try:
                if not broken:
                    writer.write(data)
                    await writer.drain()
            except OSError:  # what still comes is taken and dropped, until the other side ends too
                broken = True
        writer.close()

    delivery = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            await asyncio.sleep(bucket.wait(len(data), clock()))
            count(len(data))
            await under_way.put((clock() + delay, data))
    await under_way.put((0.0, b""))
    await delivery


def main() -> None:
    """Listen, say where, and serve."""
    listen, to, up, down, latency, *device = sys.argv[1:]
    host, _, port = listen.rpartition(":")
    listening = socket.create_server((host, int(port)))
    if device:  # whoever is on another link of this machine cannot reach it
        listening.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device[0].encode())
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    kept = Path(sys.stdin.readline().strip())
    there, _, there_port = to.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(relay(listening, (there, int(there_port)), float(up), float(down), float(latency), kept))


if __name__ == "__main__":
    main()
