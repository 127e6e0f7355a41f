"""Measure one site: its speed with one variant, its link to the store, its machine."""

from __future__ import annotations

from prefect import flow

from data_catalog.nouns import Profile, Site, VariantCard
from infra.settings import read_settings
from tasks.probe_site import probe_site_task


@flow(name="probe", flow_run_name="measure {site.name}")
def probe(site: Site, card: VariantCard) -> Profile:
    """The site's profile with this variant in it.

    Args:
        site: which one; must be this machine.
        card: the variant that it would run.
    """
    settings = read_settings()
    return probe_site_task(site, card, settings.home, settings.required_bucket())
