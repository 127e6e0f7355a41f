"""What is to be done now and then: renew the sites' access, delete what nobody needs any more."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from infra.retention import HISTORY, KEEP
from infra.settings import read_settings
from tasks.prune_models import prune_models_task
from tasks.renew_sites import renew_sites_task


@flow(name="maintain", flow_run_name="tidy up")
def maintain(
    model: Annotated[str, Field(description="Whose versions are looked at; empty: every model's")] = "",
    keep: Annotated[int, Field(description="Newest versions that stay", ge=0)] = KEEP,
    history: Annotated[
        int, Field(description="Of what each group of sites answered with before, how much stays", ge=0)
    ] = HISTORY,
    delete: Annotated[bool, Field(description="Delete; else only say what would go")] = False,
) -> dict[str, list[str]]:
    """By model, the versions that were deleted, or would be; and under `sites`, what was done for sites that joined.

    Raises:
        CloudEdgeError: what stopped it, such as a store that cannot be reached.
    """
    settings = read_settings()
    bucket = settings.required_bucket()
    renewed = renew_sites_task(settings.home, bucket)
    return prune_models_task(model, keep, history, delete, bucket) | {"sites": renewed}
