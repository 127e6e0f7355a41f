"""What a site has to touch in the store for one order: the objects that it reads and writes, and not one more.

A function a kind of order. Objects that are listed in the embedded way of working (deltas of a model, wrapped keys, indexes of a
source) are listed here by the coordinator, because a site can list nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_catalog.errors import CorruptObject, ObjectMissing
from data_catalog.nouns import WorkOrder
from data_catalog.orders import CompressOrder, DeliverOrder, PrepareOrder, ProbeOrder
from infra import keys, ledger
from infra.model_registry import DELTAS, GOLDEN
from infra.security import access, pairs, sealing
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from data_catalog.nouns import Dataset, VariantCard
    from infra.storage import Store

SLACK_BYTES = 2 << 20  # beside the content of an object; a probe's is half of it
ROW_BYTES = 256  # of a result or a record index, at most
INDEX_BYTES = 1 << 30


@dataclass(slots=True)
class Scope:
    """Keys that an order lets its site read and write; and under which beginnings it may send what has no name yet."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    slots: int = 0
    delivers: tuple[str, ...] = ()
    most_bytes: int = SLACK_BYTES


def _probe(store: Store, site: str, body: Any) -> Scope:
    order = ProbeOrder.model_validate(body)
    trial = keys.trial(site)
    scope = Scope({keys.profile(site), trial}, {trial})
    for card in order.cards:
        scope.reads |= _model(store, card)
    return scope


def _prepare(store: Store, site: str, body: Any) -> Scope:
    order = PrepareOrder.model_validate(body)
    return Scope(
        reads=_source(store, site, order.dataset, order.source),
        slots=4,  # record index, shard index, the newest one's name, quarantine
        delivers=tuple(_folders(order.dataset.name, order.source)),
        most_bytes=INDEX_BYTES,
    )


def _compress(store: Store, site: str, body: Any) -> Scope:
    order = CompressOrder.model_validate(body)
    stays = {p.key for p in order.placements if order.on_premises and p.site == site}
    names = {p.key for p in order.placements}
    readers = {site, *(p.site for p in order.placements)}
    scope = Scope(
        reads=names | _source(store, site, order.dataset, order.source),
        writes=names - stays,
        most_bytes=SLACK_BYTES + max((p.shard.bytes for p in order.placements), default=0),
    )
    if order.dataset.sensitivity == "restricted":
        shard_set = access.shards_of(order.dataset.name, order.source, [p.shard.digest for p in order.placements])
        _let_seal(store, scope, shard_set, readers)
        for key_id in _key_ids(store, scope.reads):  # of shards that more sites have to read now
            _let_open(store, scope, key_id, readers)
            scope.delivers += (f"{keys.DATA_KEYS}/{key_id[:32]}/{key_id[32:]}/",)
            scope.slots += len(readers)
    return scope


def _answer(store: Store, site: str, body: Any) -> Scope:
    order = WorkOrder.model_validate(body)
    results = {keys.result(shard.result) for shard in order.shards}
    # what is taken back of the order; the receipt, and how far the site is
    withdrawn, receipt, progress = (
        keys.run(order.run_id, folder, f"{order.order_id}.json") for folder in ("withdrawn", "receipts", "progress")
    )
    scope = Scope(
        reads=_model(store, order.card) | results | {shard.key for shard in order.shards} | {withdrawn},
        writes=results | {receipt, progress},
        most_bytes=SLACK_BYTES + max((max(s.bytes, ROW_BYTES * s.rows) for s in order.shards), default=0),
    )
    for key_id in _key_ids(store, [shard.key for shard in order.shards]):
        _let_open(store, scope, key_id, [site])
    if any(
        shard.local and keys.is_encrypted(shard.key) for shard in order.shards
    ):  # on the premises: whatever the site can open
        scope.reads |= {key for key in store.keys(keys.DATA_KEYS) if key.endswith(f"/{site}.json")}
    if order.escalation:
        scope.slots, scope.delivers = len(order.shards), ("escalations/",)
        scope.reads |= _packed_before(store, order)
        if order.escalation.shard_set:
            _let_seal(store, scope, order.escalation.shard_set, {site, *order.escalation.recipients})
    return scope


def _deliver(store: Store, site: str, body: Any) -> Scope:
    DeliverOrder.model_validate(body)
    return Scope()  # what waits goes by the access of the orders that it was done for


SCOPES: dict[str, Callable[[Store, str, Any], Scope]] = {
    "probe": _probe,
    "prepare": _prepare,
    "compress": _compress,
    "answer": _answer,
    "deliver": _deliver,
}  # by kind of order


def _model(store: Store, card: VariantCard) -> set[str]:
    """A variant's file, its golden rows, and the deltas that there are."""
    golden = keys.variant(card.model, card.version, card.name, GOLDEN)
    return {card.key, golden, *store.keys(keys.variant(card.model, card.version, card.name, DELTAS))}


def _folders(dataset: str, source: str) -> list[str]:
    """Where the indexes of a source lie, and what was rejected of it."""
    made = (make(dataset, source, "") for make in (keys.shard_index, keys.record_index, keys.quarantine))
    return [key.rpartition("/")[0] + "/" for key in made]


def _source(store: Store, site: str, dataset: Dataset, source: str) -> set[str]:
    """What is stored of a source: indexes, and the shards that the newest of them name, sealed ones with their keys."""
    found = {key for folder in _folders(dataset.name, source) for key in store.keys(folder.rstrip("/"))}
    digests: set[str] = set()
    for latest in (key for key in found if key.endswith(".latest")):
        index = keys.shard_index(dataset.name, source, store.get(latest).decode())
        try:
            digests |= {shard.digest for shard in ledger.read_index(store.get(index), index).shards}
        except (ObjectMissing, CorruptObject):  # the site makes it anew
            continue
    restricted = dataset.sensitivity == "restricted"
    stored = store.keys(keys.shards(dataset.name)) if digests else []
    shards = {key for key in stored if keys.shard_of(key)[0] in digests and keys.is_encrypted(key) == restricted}
    scope = Scope(found | shards)
    for key_id in _key_ids(store, shards):
        _let_open(store, scope, key_id, [site])
    return scope.reads


def _packed_before(store: Store, order: WorkOrder) -> set[str]:
    """Rows that an earlier run packed and that are there yet: the site need not read their shards again."""
    assert order.escalation is not None
    results = store.present([keys.result(shard.result) for shard in order.shards])
    found = set()
    for key in results:
        try:
            packed = ledger.packed_in(ledger.read_result(store.get(key), key))
        except (ObjectMissing, CorruptObject):  # the site will say so
            continue
        if packed and packed.rows:
            found.add(keys.escalation(packed.digest, packed.codec, bool(order.escalation.shard_set)))
    return store.present(sorted(found))


def _key_ids(store: Store, names: Iterable[str]) -> set[str]:
    """The data keys that stored objects are sealed with, as far as they are there."""
    found = set()
    for key in names:
        if keys.is_encrypted(key):
            try:
                found.add(sealing.key_id_of(store.get_start(key, sealing.HEADER_BYTES), key))
            except (ObjectMissing, CorruptObject):  # not there yet, or the site will say so
                continue
    return found


def _let_open(store: Store, scope: Scope, key_id: str, sites: Iterable[str]) -> None:
    """Let the site read a data key as it is wrapped to these sites: its own to open it, theirs to see that they have it."""
    scope.reads |= store.present([keys.wrapped_key(key_id, site) for site in sites])
    scope.reads |= {keys.public_key(site) for site in sites}


def _let_seal(store: Store, scope: Scope, shard_set: str, sites: set[str]) -> None:
    """Let the site seal a set: find its data keys, or make one and wrap it to those who have to read it."""
    name = f"{keys.DATA_KEYS}/{access.set_name(shard_set)}"
    for site in sites:  # one that works on this machine may have no pair yet; a site that joined has one
        pairs.public_key(store, read_settings().home, site)
    scope.reads |= {key for key in store.keys(name) if key.rpartition("/")[2].removesuffix(".json") in sites}
    scope.reads |= {keys.public_key(site) for site in sites}
    scope.delivers += (f"{name}/",)
    scope.slots += 2 * len(sites)
