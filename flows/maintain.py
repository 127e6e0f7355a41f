"""What is to be done now and then: delete what nobody needs any more."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from infra.retention import HISTORY, KEEP
from infra.settings import read_settings
from tasks.prune_models import prune_models_task


@flow(name="maintain", flow_run_name="tidy up")
def maintain(
    model: Annotated[str, Field(description="Whose versions are looked at; empty: every model's")] = "",
    keep: Annotated[int, Field(description="Newest versions that stay", ge=0)] = KEEP,
    history: Annotated[
        int, Field(description="Of what each group of sites answered with before, how much stays", ge=0)
    ] = HISTORY,
    delete: Annotated[bool, Field(description="Delete; else only say what would go")] = False,
) -> dict[str, list[str]]:
    """By model, the versions that were deleted, or would be.

    Raises:
        CloudEdgeError: what stopped it, such as a store that cannot be reached.
    """
    return prune_models_task(model, keep, history, delete, read_settings().required_bucket())
