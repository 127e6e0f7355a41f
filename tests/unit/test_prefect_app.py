"""Writes to the local Prefect server wait for one another, and are repeated when its database is busy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infra.stack.prefect_app import MOST_ATTEMPTS, queue_writes

pytestmark = pytest.mark.unit


def post(app: Any, body: tuple[bytes, ...] = (b"one",), method: str = "POST") -> Any:
    """A request whose body comes in those pieces; a coroutine of status and body of the answer."""

    async def ask() -> tuple[int, bytes]:
        pieces = [
            {"type": "http.request", "body": piece, "more_body": number < len(body) - 1}
            for number, piece in enumerate(body)
        ]
        said: list[Any] = []

        async def receive() -> Any:
            return pieces.pop(0) if pieces else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        await app({"type": "http", "method": method}, receive, send)
        return said[0]["status"], said[1]["body"]

    return ask()


def server(*statuses: int, also_raises: bool = False) -> Any:
    """An application that answers those statuses in turn, with the body it was sent."""
    left = list(statuses)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status = left.pop(0)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
        if also_raises and status >= 500:
            raise RuntimeError("the application's own error")

    app.left = left  # type: ignore[attr-defined]
    return app


@pytest.mark.parametrize("also_raises", [False, True])
def test_a_busy_answer_is_not_seen_and_the_body_is_sent_again(also_raises: bool) -> None:
    served = server(503, 503, 201, also_raises=also_raises)
    assert asyncio.run(post(queue_writes(served), (b"a", b"", b"bc"))) == (201, b"abc")
    assert not served.left


def test_a_server_that_stays_busy_says_so() -> None:
    served = server(*[503] * (MOST_ATTEMPTS + 1))
    assert asyncio.run(post(queue_writes(served)))[0] == 503
    assert len(served.left) == 1


@pytest.mark.parametrize("status", [200, 404, 409, 500])
def test_any_other_answer_is_given_once(status: int) -> None:
    served = server(status, 201)
    assert asyncio.run(post(queue_writes(served)))[0] == status
    assert served.left == [201]


def test_reads_are_not_repeated() -> None:
    served = server(503, 200)
    assert asyncio.run(post(queue_writes(served), method="GET"))[0] == 503


def test_an_application_that_breaks_before_it_answers_is_not_hushed() -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(post(queue_writes(broken)))


def test_writes_do_not_overlap_and_reads_do_not_wait() -> None:
    inside: list[str] = []
    most = {"POST": 0, "GET": 0}

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        inside.append(scope["method"])
        for method in most:
            most[method] = max(most[method], inside.count(method))
        await asyncio.sleep(0.01)
        inside.remove(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def many() -> None:
        app = queue_writes(slow)
        await asyncio.gather(*(post(app, method=method) for method in ("POST", "GET") * 4))

    asyncio.run(many())
    assert most == {"POST": 1, "GET": 4}
