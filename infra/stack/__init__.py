"""The local stack: an S3 server and a Prefect server on loopback, started when none is configured.

`using_stack` is what a command wraps itself in. What is configured (`CLOUDEDGE_BUCKET`, `PREFECT_API_URL`)
is left alone; what is running already (`cloudedge up`) is used; the rest is started for the length of the
block and stopped at its end, however it ends.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_catalog.errors import StackError, StoreFull
from infra import settings
from infra.stack import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.settings import Settings


@contextmanager
def using_stack(found: Settings, meanwhile: Callable[[], object] = lambda: None) -> Iterator[dict[str, str]]:
    """Make sure that there is a store and a Prefect server, and export their variables.

    Args:
        found: the settings before the stack.
        meanwhile: called when the variables are set, while the servers come up: importing Prefect takes as long.

    Yields:
        The variables that were set.

    Raises:
        StackError: a server does not come up, or another run uses the folder.
    """
    state = servers.read_state(found.home)
    if state:
        for part, has, wanted in (
            ("store", state.s3_url, not found.bucket), ("Prefect server", state.prefect_url, not found.prefect_api_url)
        ):  # fmt: skip
            if wanted and not has:
                raise StackError(
                    f"what `cloudedge up` started has no {part}, because one was configured then; configure it now too,"
                    " or `cloudedge down` first"
                )
        variables = servers.variables(state, found)
        settings.export(variables)
        meanwhile()
        yield variables
        return
    if found.bucket and found.prefect_api_url:
        settings.export(servers.CLIENT_VARIABLES)
        meanwhile()
        yield {}
        return
    with servers.locked(found.home), servers.running(found) as running:
        variables = servers.variables(running.state, found)
        if not found.prefect_api_url:
            variables["PREFECT_CLIENT_MAX_RETRIES"] = servers.OWN_RETRIES
        settings.export(variables)
        meanwhile()
        running.wait()
        try:
            yield variables
        except Exception as error:
            if full := running.full():
                raise StoreFull(
                    f"no space left on the disk of {full}; free some and run again: what was done is kept"
                ) from error
            if dead := running.dead():
                raise StackError(
                    f"{dead} went away in the middle of the run; its log is {running.log(dead)}; run again"
                ) from error
            raise
