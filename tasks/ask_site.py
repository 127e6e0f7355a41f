"""Hand an order to a site that is a process of its own, and wait for its answer."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Noun, Site
from data_catalog.orders import Answered, Kind
from infra import mailbox, storage


def ask_site(
    site: Site, kind: Kind, order: Noun | str, run_id: str, name: str, seconds: float, bucket: str
) -> Answered:
    """What a site answers to an order; arguments and errors as `mailbox.ask`."""
    return mailbox.ask(storage.open_store(bucket), site.name, kind, order, run_id, name, seconds)


ask_site_task = task(name="ask site", task_run_name="{site.name}: {kind} {name}", cache_policy=NO_CACHE)(ask_site)
