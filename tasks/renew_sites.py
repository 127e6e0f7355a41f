"""Renew every joined site's access to its mailbox, admit who waits, and take in what came late."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from infra import enrolment
from infra.storage import open_store


def renew_sites(home: Path, bucket: str) -> list[str]:
    """What there is to say of each site that joined; as `cloudedge site renew`.

    Args:
        home: of the coordinator, with its signing key.
        bucket: of the store.
    """
    return enrolment.renew(open_store(bucket), home)


renew_sites_task = task(name="renew sites", cache_policy=NO_CACHE)(renew_sites)
