"""What each group of sites answers with: a push, a rollback, and what a run makes of them.

What a group answers with is the newest entry of a log in the store (`Pointed`): entries are added and never changed.
Two who add one at once both see it in the listing that follows their write, and whoever sees another's entry beside
its own takes its own back and says so. That needs no more of the store than that a listing shows what was written
before ([ADR 11](../docs/adr/0011-model-registry.md)).
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from data_catalog.errors import BadInput, Conflict, CorruptObject, PlanError
from data_catalog.nouns import Pointed
from infra import keys
from infra.model_registry import find_card, judged_on, offer_delta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from data_catalog.nouns import Profile, Site, Tier, VariantCard
    from infra.storage import Store


def pointers(store: Store, model: str) -> dict[str, list[Pointed]]:
    """By group of sites: what its sites were told to answer with, oldest first.

    Raises:
        CorruptObject: an entry is something else.
    """
    logs: dict[str, dict[str, Pointed]] = {}
    for key in store.keys(keys.pointers(model)):  # sorted, so of two of one serial the first stays
        _, _, _, group, name = key.split("/")
        try:
            entry = Pointed.model_validate_json(store.get(key))
        except ValueError as error:
            raise CorruptObject(f"{key} is no entry of a group's log; delete that object") from error
        logs.setdefault(group, {}).setdefault(name.partition("-")[0], entry)
    return {group: list(log.values()) for group, log in logs.items()}


def standing(log: Sequence[Pointed]) -> list[Pointed]:
    """What a group answers with is the last of these, and a rollback takes that away; rollbacks themselves are gone."""
    stack: list[Pointed] = []
    for entry in log:
        if not entry.back:
            stack.append(entry)
        elif stack:
            stack.pop()
    return stack


def push(store: Store, card: VariantCard, group: str, by: str) -> Pointed:
    """Let the sites of a group answer with a variant from their next run on.

    Args:
        store: where the registry is.
        card: the variant.
        group: of sites.
        by: who says so.

    Raises:
        Conflict: another one changes what the group answers with, now.
    """
    log = pointers(store, card.model).get(group, [])
    now = standing(log)[-1:]
    if now and (now[0].version, now[0].variant, now[0].digest) == (card.version, card.name, card.digest):
        return now[0]
    if now and (old := find_card(store, card.model, now[0].version, now[0].variant)):
        offer_delta(store, old, card)
    return _add(store, log, Pointed(
        model=card.model, group=group, serial=_next(log), version=card.version, variant=card.name, digest=card.digest,
        by=by, at=time.time(),
    ))  # fmt: skip


def rollback(store: Store, model: str, group: str, by: str) -> Pointed:
    """Let the sites of a group answer with what they did before the last push; of the first, with what the catalog trains.

    Raises:
        BadInput: nothing was pushed to the group that was not rolled back.
        Conflict: as `push`.
    """
    log = pointers(store, model).get(group, [])
    stack = standing(log)
    if not stack:
        raise BadInput(f"group {group} has nothing to go back from: it answers with what the catalog trains of {model}")
    before = stack[-2] if len(stack) > 1 else None
    return _add(store, log, Pointed(
        model=model, group=group, serial=_next(log), version=before.version if before else "",
        variant=before.variant if before else "", digest=before.digest if before else "", by=by, at=time.time(), back=True,
    ))  # fmt: skip


def _next(log: Sequence[Pointed]) -> int:
    return log[-1].serial + 1 if log else 1


def _add(store: Store, log: Sequence[Pointed], entry: Pointed) -> Pointed:
    """Add an entry to a group's log, unless another one does so at the same time."""
    key = keys.pointer(entry.model, entry.group, entry.serial, secrets.token_hex(4))
    store.put(key, entry.model_dump_json(indent=1).encode())
    folder, mine = key.rpartition("/")[0], key.rpartition("-")[0]
    later = [other for other in store.keys(folder) if other != key and other.rpartition("-")[0] >= mine]
    if later:
        store.delete(key)
        raise Conflict(
            f"another one changes what group {entry.group} answers with for {entry.model} ({later[0]}); nothing was"
            f" changed here: look at `cloudedge models show {entry.model}`, and try again"
        )
    return entry


def pinned(store: Store, model: str, sites: Iterable[Site]) -> dict[str, Pointed]:
    """By group of these sites: what it was told to answer with; a group that follows the catalog is not in it.

    Raises:
        PlanError: groups of one run were told variants of different versions.
    """
    groups = {site.group for site in sites}
    found = {
        group: stack[-1]
        for group, log in pointers(store, model).items()
        if group in groups and (stack := standing(log))
    }
    if len({entry.version for entry in found.values()}) > 1:
        told = ", ".join(f"group {group} answers with {entry.version}" for group, entry in sorted(found.items()))
        raise PlanError(
            f"the sites of this run have different versions of model {model}: {told}; push a variant of one version to"
            f" each group, or roll one back"
        )
    return found


def fall_back(store: Store, card: VariantCard, profile: Profile) -> VariantCard | None:
    """What a site answered with last, where that can stand in for a variant that it cannot run.

    Args:
        store: where the registry is.
        card: of the variant that the site refused.
        profile: of the site.

    Returns:
        The card of the last good variant, of whichever version: for the same records, with the same classes, judged
        on the same rows. None: there is none.
    """
    version, _, name = profile.good.get(card.model, "").partition("/")
    good = find_card(store, card.model, version, name) if name else None

    def takes(one: VariantCard) -> tuple[object, ...]:
        return (one.tier, one.shape, one.dtype, one.classes, one.preprocessing)

    if good is None or good.digest not in profile.variants or takes(good) != takes(card):
        return None
    return good if judged_on(store, good) == judged_on(store, card) else None


def resolve(
    store: Store, model: str, base_cards: Mapping[Tier, VariantCard], sites: Sequence[Site]
) -> dict[str, VariantCard]:
    """By site: the variant that its group was told to answer with, else its tier's.

    Args:
        store: where the registry is.
        model: of the run.
        base_cards: by tier, those of the version that the run is of (see `pinned`).
        sites: that take part.

    Raises:
        PlanError: a group was told a variant of another tier or version than the run's, or one that is not there.
    """
    told = pinned(store, model, sites)
    version = base_cards["edge"].version
    found: dict[str, VariantCard] = {}
    for site in sites:
        entry = told.get(site.group)
        card = base_cards[site.tier] if not entry else find_card(store, model, entry.version, entry.variant)
        where = f"group {site.group} answers with {entry.variant} of {model} {entry.version}" if entry else ""
        remedy = f"push another variant, or `cloudedge models rollback {model} --group {site.group}`"
        if card is None or (entry and card.digest != entry.digest):
            raise PlanError(f"{where}, which is not published any more; {remedy}")
        if card.tier != site.tier:
            raise PlanError(
                f"{where}, which is for the {card.tier}, and site {site.name} is of the {site.tier}; {remedy}"
            )
        if card.version != version:
            raise PlanError(f"{where}, and the run is of version {version}; {remedy}")
        found[site.name] = card
    return found
