"""Show on the run's page in Prefect what was measured of a site."""

from __future__ import annotations

import base64
import time

from prefect import task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog.nouns import Profile
from infra.report import profile_chart


def publish_profiles(profiles: list[Profile]) -> None:
    """The profiles as tables and a picture on the run's page in Prefect."""
    names, now = ", ".join(profile.site for profile in profiles), time.time()
    create_table_artifact(profile_chart.site_rows(profiles, now), key="profiles", description=f"Links of {names}")
    create_table_artifact(
        profile_chart.speed_rows(profiles, now), key="speeds", description=f"Speeds of {names}, one thread"
    )
    url = "data:image/svg+xml;base64," + base64.b64encode(profile_chart.picture(profiles).encode()).decode()
    create_image_artifact(image_url=url, key="profile-picture", description=f"Speeds and links of {names}")


publish_profiles_task = task(name="publish profiles", cache_policy=NO_CACHE)(publish_profiles)
