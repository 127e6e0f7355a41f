"""Prefect's server for one machine on SQLite: requests that may write go one after another.

SQLite has one writer. Three sub-flows that run at once make the plain server answer 503 (the client then
sleeps for seconds), and now and then hold the database's lock for a minute. Queued here, the same flows see
neither (`docs/adr/0003-local-prefect.md`). Started by `uvicorn --factory`; nothing else imports this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prefect.server.api.server import create_app as create_prefect_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


def create_app() -> Callable[..., Awaitable[None]]:
    """The ASGI application: Prefect's own, with a queue in front of everything but GET and web sockets."""
    prefect = create_prefect_app()
    turn = asyncio.Lock()

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await prefect(scope, receive, send)
            return
        async with turn:
            await prefect(scope, receive, send)

    return app
