"""What has been reached once in this process is waited for, whoever asks next.

Prefect's client repeats a request that found nobody (`httpx.ConnectError`) only if that client object has reached the
server before, and each sub-flow makes a new one. So a sub-flow that begins in the seconds of a restart would fail at once,
whatever `PREFECT_CLIENT_MAX_RETRIES` says. Here that knowledge is the process's; a wrong address still fails at once.
"""

from __future__ import annotations

from prefect.client import base

KNOWN = "_has_connected"  # of `prefect.client.base`, in 3.8: tests/unit/test_patience.py sees it change


def share_what_was_reached() -> None:
    """Let all clients of this process know what one of them has reached."""
    reached: set[bool] = set()

    def remember(client: object, value: bool) -> None:
        if value:
            reached.add(True)

    shared = property(lambda client: bool(reached), remember)
    for client in (base.PrefectHttpxSyncClient, base.PrefectHttpxAsyncClient):
        setattr(client, KNOWN, shared)
