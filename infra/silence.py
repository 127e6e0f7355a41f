"""Sites that give no answer before a plan is made: what is known of them from earlier runs stands in for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_catalog.errors import CorruptObject, ObjectMissing
from data_catalog.nouns import Profile, VariantCard, VariantSpeed
from infra import choice, keys, ledger, sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import Dataset, Site, Source
    from infra.ledger import Index
    from infra.storage import Store

AS_BEFORE = "its rows are taken to be those that it had when it said so last"
NEVER = "it has never said what it holds, so that its rows are not counted"
CHANGED = "what it holds has changed since; run again to have that answered"
GUESS_ROWS_PER_SECOND, GUESS_BYTES_PER_SECOND, GUESS_BATCH = 100.0, 1e6, 32  # of a site that nobody has measured


def last_index(store: Store, dataset: Dataset, source: Source) -> Index | None:
    """The shards of the batch that a source was cut into last, whatever it holds now; None if it never was, or is damaged.

    Args:
        store: with the indexes.
        dataset: the catalog entry, `sized`, its transforms fitted.
        source: of it.
    """
    try:
        latest = store.get(keys.latest_index(dataset.name, source.name, sources.lineage(dataset, source))).decode()
        key = keys.shard_index(dataset.name, source.name, latest)
        return ledger.read_index(store.get(key), key)
    except (ObjectMissing, CorruptObject, UnicodeDecodeError):
        return None


def stand_in(site: Site, known: Profile | None, offered: Sequence[VariantCard]) -> tuple[Profile, VariantCard]:
    """A profile to plan with for a site that cannot be measured now, and the variant that it would answer with.

    What was measured of it holds. All else is a guess that nobody keeps: nothing is placed at such a site but what it has.

    Args:
        site: which one.
        known: its last profile, if it ever was measured.
        offered: `choice.candidates` of it.
    """
    measured = [card for card in offered if known and choice.speed(known, card)]
    if known and measured:
        return known, choice.choose(site, tuple(measured), known, offered[0])
    card = next((card for card in offered if not known or choice.refusal(known, card) is None), offered[0])
    speed = VariantSpeed(
        rows_per_second=GUESS_ROWS_PER_SECOND, batch=GUESS_BATCH, startup_seconds=0.0, runtime=card.runtime
    )
    plain = known or Profile(
        site=site.name, host=site.name, cores=site.threads, memory_bytes=1 << 30, disk_free_bytes=1 << 30,
        up_bytes_per_second=GUESS_BYTES_PER_SECOND, down_bytes_per_second=GUESS_BYTES_PER_SECOND,
        latency_seconds=0.0, dispatch_seconds=0.0,
    )  # fmt: skip
    return plain.model_copy(update={"variants": plain.variants | {card.digest: speed}}), card


def unseen(known: Mapping[str, str], uncounted: Mapping[str, str]) -> dict[str, str]:
    """By source of which a site did not say what it holds now: what that means for its rows.

    Args:
        known: sources whose last index stands in, and why.
        uncounted: sources without one, and why.
    """
    return {name: f"{why}; {AS_BEFORE}" for name, why in known.items()} | {
        name: f"{why}; {NEVER}" for name, why in uncounted.items()
    }
