"""The first orders of a run under watch: what `infra/watching` does, by this run's own hands."""

from __future__ import annotations

import time
from collections.abc import Callable

from data_catalog.catalog import Catalog
from data_catalog.errors import AccessDenied, SiteFailed
from data_catalog.nouns import Dataset, Placement, Plan, Profile, Receipt, Site
from flows import _dispatching as dispatching
from infra.keys import is_encrypted
from infra.newcomers import newcomers
from infra.problem import place_site, problem_of
from infra.security.policy import authorise
from infra.storage import open_store
from infra.watching import Hands, Joined, Watched, watch
from tasks.write_orders import write_orders_task

SENT_SECONDS, PAUSE_SECONDS = 120.0, 0.5  # how long a busy site may take to send shards; between two looks


def worth_watching(plan: Plan, batch: Dataset) -> bool:
    """Whether anything may have to be changed: something is to be computed, and shards may leave their origin."""
    return batch.residency == "any" and not all(p.reused for p in plan.placements)


def answer_watched(
    plan: Plan,
    batch: Dataset,
    sites: list[Site],
    profiles: list[Profile],
    sources: dict[str, dispatching.Ready],
    answer: Callable[[str], Receipt],
    bucket: str,
    elastic: Catalog | None = None,
    ends: float | None = None,
) -> Watched:
    """Have the first orders done, whoever does them in the end, or as far as they are when the time is over.

    Args:
        plan: whose orders are written, watched.
        batch: the dataset.
        sites: of the run; those that join are added.
        profiles: of each, in the sites' order; likewise.
        sources: that were prepared, by name.
        answer: has the order of that key done.
        bucket: of the store.
        elastic: the catalog, if its other sites may join.
        ends: epoch seconds after which nobody is waited for; None: no limit.

    Raises:
        CloudEdgeError: as `infra.watching.watch`.
    """
    store, begun = open_store(bucket), time.time()

    def write(part: Plan, number: int) -> str:
        site = part.placements[0].site
        restricted = batch.sensitivity == "restricted"
        orders = write_orders_task(part, sites, bucket, restricted=restricted, watched=True, number=number)
        return orders[site]

    def upload(source: str, placements: list[Placement]) -> int:
        origin = next(site for site in sites if site.name == batch.source(source).site)
        if origin.dispatch == "embedded":
            return dispatching.compress(origin, batch, source, placements, None, plan.run_id, bucket)
        wanted = [p.key for p in placements]  # its process does one letter at a time; it sends these beside its order
        if any(is_encrypted(key) for key in wanted):
            raise SiteFailed(f"site {origin.name} cannot give others the key of its shards while it works")
        until = time.monotonic() + SENT_SECONDS
        while len(store.present(wanted)) < len(set(wanted)):
            if time.monotonic() > until:
                raise SiteFailed(f"site {origin.name} has not sent the shards that others were to answer")
            time.sleep(PAUSE_SECONDS)
        return 0  # its receipt has them

    def join() -> list[Joined]:
        found = []
        for site, profile, card in newcomers(elastic, {s.name for s in sites}, plan, store, begun) if elastic else []:
            try:
                access = authorise("run", batch, [site])
            except AccessDenied:
                continue  # who may not take part has not come
            place = place_site(site, profile, [(card, plan.cascades.get(card.digest, plan.cascade))])
            size = profile.variants[card.digest].batch
            found.append(Joined(site=site, place=place, card=card, batch=size, access=access))
            sites.append(site)
            profiles.append(profile)
        return found

    trials = {name: ready.index.trials for name, ready in sources.items()}
    problem = problem_of(plan, batch, sites, profiles, trials)
    return watch(
        plan,
        problem,
        sites,
        Hands(answer=lambda _, order_key: answer(order_key), write=write, upload=upload, join=join),
        store,
        ends=ends,
    )
