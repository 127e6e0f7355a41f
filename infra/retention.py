"""Which versions of a model may go: all but the newest, and those that a group of sites answers with or may go back to.

Nothing else in the store names a version's files: results are named by digests, and stay. A site that relies on a
variant of a version keeps it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import keys, model_registry, rollout, sites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import VariantCard
    from infra.storage import Store

KEEP = 3  # newest versions, and
HISTORY = 2  # what each group answered with before


@dataclass(frozen=True, slots=True)
class Kept:
    """A published version, and why it stays; no reason: it may go."""

    version: str
    variants: Mapping[str, VariantCard]
    reasons: tuple[str, ...]


def examine(store: Store, model: str, keep: int = KEEP, history: int = HISTORY) -> list[Kept]:
    """The published versions of a model, newest first, each with the reasons for which it stays.

    Args:
        store: where the registry is.
        model: name of the model.
        keep: newest versions that stay.
        history: of each group: what it answered with before, as far back as this.
    """
    reasons: dict[str, list[str]] = {}
    for group, log in rollout.pointers(store, model).items():
        told = rollout.standing(log)
        for back, entry in enumerate(reversed(told[-history - 1 :])):
            reasons.setdefault(entry.version, []).append(f"group {group} {'answered' if back else 'answers'} with it")
    for profile in sites.profiles(store):
        if good := profile.good.get(model):
            reasons.setdefault(good.partition("/")[0], []).append(f"site {profile.site} relies on it")
    found = []
    for place, (version, variants) in enumerate(model_registry.versions(store, model).items()):
        newest = [f"one of the {keep} newest"] if place < keep else []
        found.append(Kept(version, variants, (*newest, *dict.fromkeys(reasons.get(version, ())))))
    return found


def remove(store: Store, model: str, versions: Sequence[str]) -> int:
    """Delete versions: their cards first, so that what is left of one, should this fail, does not read as published.

    Returns:
        How many objects were deleted.
    """
    gone = 0
    for version in versions:
        inside = store.keys(keys.model_version(model, version))
        for key in sorted(inside, key=lambda key: not key.endswith(f"/{model_registry.CARD}")):
            store.delete(key)
            gone += 1
    return gone
