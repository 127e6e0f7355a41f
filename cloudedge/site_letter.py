"""One letter to a site as a flow run, for a site whose Prefect worker gets its orders (`dispatch: worker`)."""

from __future__ import annotations

import time

from prefect import flow

from cloudedge.site_work import letters
from data_catalog.errors import StoreError
from data_catalog.orders import Letter
from infra import agent
from infra.premises import SiteStore
from infra.settings import read_settings
from infra.storage import open_store, stand_in
from infra.workspace import workspace

PAUSE_SECONDS = 2.0


@flow(name="site", flow_run_name="{site}: {letter.kind}")
def site_letter(site: str, letter: Letter) -> None:
    """Do a letter and write its answer; as long as the store gives no answer, try again until nobody waits any more.

    Args:
        site: whose worker this is.
        letter: names the order, and where the answer goes.

    Raises:
        StoreError: the store gave no answer to the end.
    """
    found = read_settings()
    store = SiteStore(open_store(found.required_bucket()), found.home / "sites" / site / "premises")
    stand_in(store)
    failures: dict[str, int] = {}
    with workspace(found.home) as work:
        do = letters(site, store, found.home, work)
        while True:
            try:
                if not store.exists(letter.answer):
                    agent.answer_letter(site, store, letter, do, failures)
            except StoreError:
                if time.time() > letter.deadline + agent.LATE_SECONDS:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                return
