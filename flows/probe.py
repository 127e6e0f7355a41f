"""Measure one site: its speed with each variant, its link to the store, its machine."""

from __future__ import annotations

from prefect import flow

from data_catalog.nouns import Profile, Site, VariantCard
from infra.settings import read_settings
from tasks.probe_site import probe_site_task


@flow(name="probe", flow_run_name="measure {site.name}")
def probe(site: Site, cards: tuple[VariantCard, ...]) -> Profile:
    """The site's profile with these variants in it.

    Args:
        site: which one; must be this machine.
        cards: the variants that it may answer with.
    """
    settings = read_settings()
    return probe_site_task(site, cards, settings.home, settings.required_bucket())
