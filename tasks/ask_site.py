"""Hand an order to a site that is a process of its own, and wait for its answer."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import SiteFailed
from data_catalog.nouns import Noun, Site
from data_catalog.orders import Answered, Kind, Letter
from infra import mailbox, storage


def ask_site(
    site: Site, kind: Kind, order: Noun | str, run_id: str, name: str, seconds: float, bucket: str
) -> Answered:
    """What a site answers to an order; arguments and errors as `mailbox.ask`."""
    hand_over = start_at_worker if site.dispatch == "worker" else mailbox.post
    return mailbox.ask(storage.open_store(bucket), site.name, kind, order, run_id, name, seconds, hand_over)


def start_at_worker(store: storage.Store, site: str, letter: Letter) -> None:
    """Let the worker of a site's own pool do a letter; nothing if it has it.

    The answer in the store is what counts: a run that is called crashed because it was cut off may still bring it.

    Raises:
        SiteFailed: the site was not deployed, or its run has failed.
    """
    from prefect.client.schemas.objects import FlowRun
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    parameters = {"site": site, "letter": letter.model_dump(mode="json")}
    try:
        run = run_deployment(
            f"site/{site}", parameters=parameters, timeout=0, idempotency_key=letter.order_id, as_subflow=False
        )
    except ObjectNotFound as error:
        raise SiteFailed(f"site {site} has no deployment site/{site}; `cloudedge deploy` makes it") from error
    assert isinstance(run, FlowRun)
    ended = run.state if run.state and (run.state.is_failed() or run.state.is_cancelled()) else None
    if ended and not store.exists(letter.answer):
        raise SiteFailed(
            f"site {site}: the run of its worker ended as {ended.name}, without an answer ({ended.message})"
        )


ask_site_task = task(name="ask site", task_run_name="{site.name}: {kind} {name}", cache_policy=NO_CACHE)(ask_site)
