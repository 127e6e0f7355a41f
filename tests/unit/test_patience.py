"""A client that is new asks again too, once the process has reached the server; a wrong address fails at once."""

from __future__ import annotations

import httpx
import pytest
from prefect.client.base import PrefectHttpxSyncClient
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_CLIENT_RETRY_JITTER_FACTOR, temporary_settings

from flows._patience import KNOWN, share_what_was_reached
from infra.stack import servers

pytestmark = pytest.mark.unit


class Away(httpx.BaseTransport):
    """A server that is away until it is asked for the `back`-th time."""

    def __init__(self, back: int) -> None:
        self.asked, self.back = 0, back

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked < self.back:
            raise httpx.ConnectError("nobody there", request=request)
        return httpx.Response(200, request=request)


def client(transport: Away) -> PrefectHttpxSyncClient:
    return PrefectHttpxSyncClient(transport=transport, base_url="http://127.0.0.1:1", enable_csrf_support=False)


@pytest.fixture
def quick(monkeypatch):
    """No pauses, and a process that has reached nothing yet."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    share_what_was_reached()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 4, PREFECT_CLIENT_RETRY_JITTER_FACTOR: 0}):
        yield


def test_prefect_has_what_we_share():
    """With another Prefect this may be gone: then see what it does instead."""
    import inspect

    assert f"self.{KNOWN} = True" in inspect.getsource(PrefectHttpxSyncClient)


def test_an_address_that_was_never_reached_fails_at_once(quick):
    nobody = Away(back=3)
    with pytest.raises(httpx.ConnectError):
        client(nobody).get("/")
    assert nobody.asked == 1


def test_a_new_client_waits_for_a_server_that_another_has_reached(quick):
    assert client(Away(back=1)).get("/").status_code == 200
    restarting = Away(back=4)
    assert client(restarting).get("/").status_code == 200
    assert restarting.asked == 4


def test_the_retries_outlast_two_minutes():
    """The pauses are 2, 4, 8, ... seconds."""
    assert sum(2**k for k in range(1, int(servers.CLIENT_VARIABLES["PREFECT_CLIENT_MAX_RETRIES"]) + 1)) > 4 * 120
