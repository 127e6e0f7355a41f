"""Prefect's server for one machine on SQLite: requests that may write go one after another, and again when it is busy.

SQLite has one writer. Three sub-flows that run at once make the plain server answer 503 (the client then
sleeps for seconds), and now and then hold the database's lock for a minute. Queued here, they do not meet one
another; the server's own services, which no queue reaches, they may still meet, and are repeated
(`docs/adr/0003-local-prefect.md`). Started by `uvicorn --factory`; nothing else imports this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Application = Callable[
        [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
    ]

BUSY = 503  # what Prefect answers, having rolled back, when SQLite is busy
MOST_ATTEMPTS = 40
PAUSE_SECONDS = 0.025


def create_app() -> Application:
    """The ASGI application: Prefect's own; on SQLite with a queue in front of everything but GET and web sockets."""
    from prefect.server.api.server import create_app as create_prefect_app
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    on_sqlite = str(PREFECT_API_DATABASE_CONNECTION_URL.value()).startswith("sqlite")
    return queue_writes(create_prefect_app()) if on_sqlite else create_prefect_app()


def queue_writes(served: Application) -> Application:
    """Let requests that may write in one at a time, and repeat the one that was answered 503.

    Args:
        served: an ASGI application; what it answers with 503 it has not done.
    """
    turn = asyncio.Lock()

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await served(scope, receive, send)
            return
        asked = [await receive()]
        while asked[-1].get("more_body"):
            asked.append(await receive())
        async with turn:
            for left in reversed(range(MOST_ATTEMPTS)):
                answer = await _answer(served, dict(scope), asked, receive)
                if not left or not answer or answer[0].get("status") != BUSY:
                    break
                await asyncio.sleep(PAUSE_SECONDS)
        for message in answer:
            await send(message)

    return app


async def _answer(
    served: Application, scope: Message, asked: list[Message], receive: Callable[[], Awaitable[Message]]
) -> list[Message]:
    """All that the application says to one request that was read already."""
    unread = iter(asked)
    said: list[Message] = []

    async def read() -> Message:
        message = next(unread, None)
        return await receive() if message is None else message

    async def keep(message: Message) -> None:
        said.append(message)

    try:
        await served(scope, read, keep)
    except Exception:
        if not said:  # Starlette answers an error of the application and raises it nevertheless
            raise
    return said
