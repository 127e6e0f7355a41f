"""Where each shard of a dataset was placed last: what a site was given before it may have on its disk still.

One object a dataset, whose runs write it: first what was planned, then what came of it. A plan that is only looked at changes
nothing, so the same plan made twice is the same. What no run has placed lately is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_catalog.whereabouts import Whereabouts
from infra import coordination, keys
from infra.storage import read_noun

if TYPE_CHECKING:
    from data_catalog.nouns import Plan
    from infra.storage import Store


def recall(store: Store, dataset: str) -> dict[str, str]:
    """By a shard's digest: the site that was given it last, by the last run of the dataset.

    Raises:
        CorruptObject: the object is something else.
        StoreError: the store failed.
    """
    found = read_noun(store, keys.whereabouts(dataset), Whereabouts, "not where shards were placed")
    return {digest: site for site, digests in found.shards.items() for digest in digests} if found else {}


def remember(store: Store, plan: Plan) -> None:
    """Keep in mind where the plan of a run has its shards; of one whose result is known, where it was before.

    Raises:
        Conflict: another coordinator has taken over.
        StoreError: the store failed.
    """
    before = recall(store, plan.dataset)
    shards: dict[str, list[str]] = {}
    for p in plan.placements:
        site = before.get(p.shard.digest) if p.reused else p.site
        if site is not None:
            shards.setdefault(site, []).append(p.shard.digest)
    said = Whereabouts(run_id=plan.run_id, shards={site: tuple(each) for site, each in sorted(shards.items())})
    coordination.put(store, plan.run_id, keys.whereabouts(plan.dataset), said.model_dump_json().encode())
