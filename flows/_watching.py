"""The first orders of a run under watch: what `infra/watching` does, by this run's own hands."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from data_catalog.catalog import Catalog
from data_catalog.errors import AccessDenied, CloudEdgeError, SiteFailed
from data_catalog.nouns import AccessDecision, Dataset, Placement, Plan, Profile, Receipt, Site
from flows import _dispatching as dispatching
from flows._prepare import Prepared
from infra import choice, newcomers
from infra.keys import is_encrypted
from infra.problem import place_site, problem_of
from infra.security.policy import authorise
from infra.storage import open_store
from infra.watching import Hands, Joined, Watched, watch
from tasks.offer_variants import offer_variants_task
from tasks.refine_profiles import refine_profiles_task
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
    ready: Prepared,
    answer: Callable[[str], Receipt],
    bucket: str,
    elastic: Callable[[], Catalog] | None = None,
    ends: float | None = None,
) -> Watched:
    """Have the first orders done, whoever does them in the end, or as far as they are when the time is over.

    Args:
        plan: whose orders are written, watched.
        batch: the dataset.
        sites: of the run; those that join are added.
        profiles: of each, in the sites' order; likewise.
        ready: what was there before the plan.
        answer: has the order of that key done.
        bucket: of the store.
        elastic: gives the catalog as it is now, if its other sites may join. One that was never measured is, beside the run.
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
            return dispatching.compress(origin, batch, source, placements, None, plan.run_id, bucket).wan_bytes
        wanted = [p.key for p in placements]  # its process does one letter at a time; it sends these beside its order
        if any(is_encrypted(key) for key in wanted):
            raise SiteFailed(f"site {origin.name} cannot give others the key of its shards while it works")
        until = time.monotonic() + SENT_SECONDS
        while len(store.present(wanted)) < len(set(wanted)):
            if time.monotonic() > until:
                raise SiteFailed(f"site {origin.name} has not sent the shards that others were to answer")
            time.sleep(PAUSE_SECONDS)
        return 0  # its receipt has them

    asked: set[str] = set()

    def join() -> list[Joined]:
        found: list[Joined] = []
        if elastic is None:
            return found
        taking_part = {s.name for s in sites}
        try:
            come = newcomers.newcomers(elastic(), taking_part, plan, store, begun)
        except CloudEdgeError:  # a file that is being written, a store that is away: the next look will do
            return found
        for site, profile, card in come:
            if (access := allowed(site)) is None:
                continue
            if profile is None or card is None:
                if site.dispatch == "mailbox" and site.name not in asked:
                    asked.add(site.name)
                    call = partial(contextvars.copy_context().run, measure, site, profile)
                    threading.Thread(target=call, name=f"probe-{site.name}", daemon=True).start()
                continue
            place = place_site(site, profile, [(card, plan.cascades.get(card.digest, plan.cascade))])
            size = profile.variants[card.digest].batch
            found.append(Joined(site=site, place=place, card=card, batch=size, access=access))
            sites.append(site)
            profiles.append(profile)
        return found

    def allowed(site: Site) -> tuple[AccessDecision, ...] | None:
        """What lets a site take part; who may not has not come."""
        try:
            return authorise("run", batch, [site])
        except AccessDenied:
            return None

    def measure(site: Site, last: Profile | None) -> None:
        """Measure a site as before a run; the next look finds its profile. The run goes on without one that fails at it."""
        used = {card.digest for card in newcomers.usable(plan, site)}
        with suppress(CloudEdgeError):
            offered = offer_variants_task(ready.cards, [site], bucket)[site.name]
            new = choice.unmeasured(last, [card for card in offered if card.digest in used])
            if not new:
                return  # it has refused them
            start = time.time()
            profile = dispatching.probe(site, new, plan.run_id, bucket)
            refine_profiles_task([profile], {site.name: time.time() - start - profile.probe_seconds}, [], bucket)

    trials = {name: source.index.trials for name, source in ready.sources.items()}
    holding = {placement.site for placement in plan.placements}
    # who is silent and has nothing gets nothing
    there = [(s, p) for s, p in zip(sites, profiles, strict=True) if s.name not in ready.silent or s.name in holding]
    problem = problem_of(plan, batch, [site for site, _ in there], [profile for _, profile in there], trials)
    return watch(
        plan,
        problem,
        [site for site, _ in there],
        Hands(answer=lambda _, order_key: answer(order_key), write=write, upload=upload, join=join),
        store,
        ends=ends,
    )
