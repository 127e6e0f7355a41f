"""Sites that come while a run is under way: those of the catalog that have just been measured, or whose process has just begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import mailbox
from infra.sites import read_profile

if TYPE_CHECKING:
    from collections.abc import Collection

    from data_catalog.catalog import Catalog
    from data_catalog.nouns import Plan, Profile, Site, VariantCard
    from infra.storage import Store


def newcomers(
    catalog: Catalog, known: Collection[str], plan: Plan, store: Store, since: float
) -> list[tuple[Site, Profile | None, VariantCard | None]]:
    """Sites that have come, what was measured of them, and the variant of the run that they can answer with.

    Without a variant a site was never measured with one that the run uses in its tier, and cannot be planned for until it is.

    Args:
        catalog: that has an entry for each.
        known: names of the sites that take part already.
        plan: of the run.
        store: with profiles and signs of life.
        since: epoch seconds, after which they have come.

    Raises:
        CatalogError: the entry of a site is broken.
        CorruptObject: its profile is.
        StoreError: the store failed.
    """
    found = []
    for name in catalog.names("sites"):
        if name in known or (site := catalog.site(name)).draining:
            continue
        profile = read_profile(store, name)
        presence = mailbox.read_presence(store, name) if site.dispatch == "mailbox" else None
        came = max(profile.measured_at if profile else 0.0, presence.started if presence else 0.0)
        if came >= since:
            found.append((site, profile, _measured(plan, site, profile)))
    return found


def usable(plan: Plan, site: Site) -> list[VariantCard]:
    """The variants that a run uses in a site's tier, the plan's own first."""
    return [plan.variants[site.tier], *(card for card in plan.cards.values() if card.tier == site.tier)]


def _measured(plan: Plan, site: Site, profile: Profile | None) -> VariantCard | None:
    """The first of the run's variants that the site was measured with; None if there is none."""
    for card in usable(plan, site):
        speed = profile.variants.get(card.digest) if profile else None
        if speed and speed.runtime in ("", card.runtime):
            return card
    return None
