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
) -> list[tuple[Site, Profile, VariantCard]]:
    """Sites that have come, what was measured of them, and the variant of the plan that they can answer with.

    One that was never measured with a variant that the run uses in its tier cannot be planned for, and is left out.

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
        if name in known or (profile := read_profile(store, name)) is None:
            continue
        site = catalog.site(name)
        presence = mailbox.read_presence(store, name) if site.dispatch == "mailbox" else None
        if max(profile.measured_at, presence.started if presence else 0.0) < since:
            continue
        usable = [plan.variants[site.tier], *(c for c in plan.cards.values() if c.tier == site.tier)]
        for card in usable:
            speed = profile.variants.get(card.digest)
            if speed and speed.runtime in ("", card.runtime):
                found.append((site, profile, card))
                break
    return found
