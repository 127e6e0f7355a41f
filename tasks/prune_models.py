"""Delete the versions of models that no group of sites needs."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import UnknownName
from infra import model_registry, retention
from infra.storage import open_store


def prune_models(model: str, keep: int, history: int, delete: bool, bucket: str) -> dict[str, list[str]]:
    """By model, the versions that were deleted, or would be.

    Args:
        model: of the registry; empty: every model there.
        keep: newest versions that stay.
        history: of what each group of sites answered with before, how much stays.
        delete: else only say what would go.
        bucket: of the store.

    Raises:
        UnknownName: the registry has no such model.
    """
    store = open_store(bucket)
    known = model_registry.models(store)
    if model and model not in known:
        raise UnknownName.among("model in the registry", model, known, "parameter `model`")
    gone: dict[str, list[str]] = {}
    for name in [model] if model else sorted(known):
        gone[name] = [kept.version for kept in retention.examine(store, name, keep, history) if not kept.reasons]
        if delete:
            retention.remove(store, name, gone[name])
    return gone


prune_models_task = task(name="prune models", cache_policy=NO_CACHE)(prune_models)
