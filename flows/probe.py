"""Measure one site: its speed with each variant, its link to the store, its machine."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from data_catalog.nouns import Profile, Site, VariantCard
from infra.settings import read_settings
from tasks.probe_site import probe_site_task
from tasks.publish_profiles import publish_profiles_task


@flow(name="probe", flow_run_name="measure {site.name}")
def probe(site: Site, cards: tuple[VariantCard, ...]) -> Profile:
    """The site's profile with these variants in it.

    Args:
        site: which one; must be this machine.
        cards: the variants that it may answer with.
    """
    settings = read_settings()
    profile = probe_site_task(site, cards, settings.home, settings.required_bucket())
    if flow_run.parent_flow_run_id is None:  # a run that it is part of shows all sites together
        publish_profiles_task([profile])
    return profile
