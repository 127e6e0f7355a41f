"""The registry of models in the store: versions that never change.

A version is a folder of variants that were made of the same training data, and so can work together in one run. A
variant is published when its card is there; the card is written last and never written over. The model lies in the
shelf form (`infra/shelf`) under a name with its digest, so two who publish at once tear nothing.

`infra/rollout.py` says which sites answer with which variant ([ADR 11](../docs/adr/0011-model-registry.md)).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from data_catalog.errors import Conflict, CorruptObject, ObjectMissing, PlanError, UnknownName
from data_catalog.nouns import VariantCard
from infra import cascade, keys, ledger, self_test, shards, shelf
from infra.storage import read_noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from infra.self_test import Golden
    from infra.storage import Store

CARD = "card.json"
PAGE = "card.html"
GOLDEN = "golden.npz"
PACKED = ".packed"
DELTAS = "deltas"


def publish(
    store: Store,
    card: VariantCard,
    model: bytes,
    golden: Golden | None,
    answers: Mapping[str, pa.Table],
    file: str = "model.tflite",
) -> VariantCard:
    """Add a variant to its version; the same bytes again change nothing.

    Args:
        store: where the registry is.
        card: of the variant; `key`, `digest`, `bytes`, `stored_bytes`, `golden_digest` and `published_at` are filled in.
        model: its bytes, as the runtime takes them.
        golden: rows for the self-test on sites (`self_test.choose`); None: it has none.
        answers: by split, `answer_table` of it.
        file: what the model's file is called.

    Returns:
        The card as it is published: that of the store, if the variant was there.

    Raises:
        Conflict: the version has a variant of that name with other bytes.
        StoreError: as the store says.
    """
    from infra.report import card_page  # whoever only reads needs no templates

    digest = shards.digest(model)
    if there := find_card(store, card.model, card.version, card.name):
        if there.digest != digest:
            raise Conflict(
                f"variant {card.name} of {card.model} {card.version} is published with other bytes ({there.digest[:12]}),"
                " and a version never changes; give the variant another name"
            )
        return there
    packed = shelf.pack(model)
    stem, dot, suffix = file.partition(".")
    rows = self_test.write(golden) if golden else b""
    card = card.model_copy(
        update={
            "key": keys.variant(card.model, card.version, card.name, f"{stem}-{digest[:16]}{dot}{suffix}{PACKED}"),
            "digest": digest,
            "bytes": len(model),
            "stored_bytes": len(packed),
            "golden_digest": shards.digest(rows) if rows else "",
            "published_at": time.time(),
        }
    )
    store.put(card.key, packed)
    if rows:
        store.put(keys.variant(card.model, card.version, card.name, GOLDEN), rows)
    for split, table in answers.items():
        store.put(keys.answers(card.model, card.version, card.name, split), ledger.parquet(table))
    if before := _newest(store, card.model, card.name):
        offer_delta(store, before, card, model)
    store.put(keys.variant(card.model, card.version, card.name, PAGE), card_page.page(card).encode())
    store.put_new(keys.variant(card.model, card.version, card.name, CARD), card.model_dump_json(indent=2).encode())
    return card


def withdraw(store: Store, model: str, version: str) -> None:
    """Unpublish what is left of a version that lacks a part, before it is made anew: all its cards go."""
    for name in cards(store, model, version):
        store.delete(keys.variant(model, version, name, CARD))


def answer_table(
    ids: NDArray[np.str_], labels: NDArray[np.integer], logits: NDArray[np.float32], temperature: float
) -> pa.Table:
    """A variant's answers to held-out rows: `record_id`, `label`, `prediction` (class numbers) and `confidence`."""
    prediction, confidence = cascade.answer(logits, temperature)
    return pa.table(
        {
            "record_id": pa.array(ids, pa.string()),
            "label": pa.array(labels, pa.int32()),
            "prediction": pa.array(prediction, pa.int32()),
            "confidence": pa.array(confidence, pa.float32()),
        }
    )


def read_answers(store: Store, edge: VariantCard, cloud: VariantCard, split: str) -> pa.Table:
    """Both variants' answers to the rows that both were judged on, sorted by record.

    Returns:
        `record_id`, `label`, `edge`, `edge_confidence`, `cloud`, `cloud_confidence`.

    Raises:
        ObjectMissing, CorruptObject: as the store says.
        PlanError: there is no such row.
    """
    tables = []
    for card, tier in ((edge, "edge"), (cloud, "cloud")):
        key = keys.answers(card.model, card.version, card.name, split)
        table = ledger.read_parquet(store.get(key), key)
        tables.append(table.rename_columns({"prediction": tier, "confidence": f"{tier}_confidence"}))
    both = tables[0].join(tables[1].drop_columns("label"), "record_id", join_type="inner")
    if not both.num_rows:
        raise PlanError(
            f"variants {edge.name} of {edge.model} {edge.version} and {cloud.name} of {cloud.version} were judged on no"
            f" {split} row in common, so they cannot work together; push variants of one version"
        )
    names = ["record_id", "label", "edge", "edge_confidence", "cloud", "cloud_confidence"]
    return both.select(names).sort_by("record_id").combine_chunks()


def judged_on(store: Store, card: VariantCard) -> list[str]:
    """Ids of the validation rows that a variant was judged on, sorted."""
    key = keys.answers(card.model, card.version, card.name, "validation")
    return sorted(ledger.read_parquet(store.get(key), key)["record_id"].to_pylist())


def find_card(store: Store, model: str, version: str, name: str) -> VariantCard | None:
    """The card of a variant, or None if it is not published.

    Raises:
        CorruptObject: the object is not a card.
    """
    key = keys.variant(model, version, name, CARD)
    return read_noun(store, key, VariantCard, "not a variant's card")


def read_card(store: Store, model: str, version: str, name: str) -> VariantCard:
    """The card of a variant.

    Raises:
        UnknownName: it is not published; names those that are.
        CorruptObject: the object is not a card.
    """
    if card := find_card(store, model, version, name):
        return card
    raise UnknownName.among(f"variant of {model} {version}", name, cards(store, model, version))


def models(store: Store) -> list[str]:
    """Names of the models in the registry."""
    return sorted({key.split("/")[1] for key in store.keys("models")})


def cards(store: Store, model: str, version: str) -> dict[str, VariantCard]:
    """The published variants of a version, by name."""
    return _cards(store, store.keys(keys.model_version(model, version)))


def versions(store: Store, model: str) -> dict[str, dict[str, VariantCard]]:
    """The published versions of a model, newest first, each with its variants by name."""
    found: dict[str, list[str]] = {}
    for key in store.keys(keys.models(model)):
        found.setdefault(key.split("/")[2], []).append(key)
    read = {version: _cards(store, inside) for version, inside in found.items()}
    return dict(
        sorted(
            ((version, variants) for version, variants in read.items() if variants),
            key=lambda item: -max(card.published_at for card in item[1].values()),
        )
    )


def _newest(store: Store, model: str, name: str) -> VariantCard | None:
    """The variant of that name that was published last."""
    inside = [key for key in store.keys(keys.models(model)) if key.endswith(f"/{name}/{CARD}")]
    found = [card for key in inside for card in _cards(store, [key]).values()]
    return max(found, key=lambda card: card.published_at, default=None)


def _cards(store: Store, inside: Iterable[str]) -> dict[str, VariantCard]:
    found = {}
    for key in inside:
        parts = key.split("/")
        if len(parts) == 5 and parts[4] == CARD and (card := find_card(store, *parts[1:4])):
            found[parts[3]] = card
    return found


def read_model(store: Store, card: VariantCard) -> bytes:
    """A variant's bytes, as the runtime takes them, verified.

    Raises:
        CorruptObject: the object in the store is not what the card promises.
    """
    packed = store.get(card.key)
    try:
        model = shelf.unpack(packed, card.bytes, card.key) if card.stored_bytes else packed
    except CorruptObject as error:
        raise _corrupt(card) from error
    if shards.digest(model) != card.digest:
        raise _corrupt(card)
    return model


def _corrupt(card: VariantCard) -> CorruptObject:
    return CorruptObject(
        f"{card.key} is corrupt (its content has another digest than its card); delete"
        f" {keys.variant(card.model, card.version, card.name, CARD)} and run again, the model will be made anew"
    )


def fetch(store: Store, card: VariantCard, here: Mapping[str, Path]) -> tuple[bytes, int]:
    """A variant's bytes, verified, whole or as a delta to a model that is here, whichever is smaller.

    Args:
        store: where the registry is.
        card: of the variant.
        here: by digest, files with models.

    Returns:
        The bytes, and how many of them came from the store.

    Raises:
        CorruptObject: the object in the store is not what the card promises.
    """
    offered = store.keys(keys.variant(card.model, card.version, card.name, DELTAS)) if here else []
    for key in offered:
        if old := here.get(key.rpartition("/")[2]):
            packed = store.get(key)
            try:
                model = shelf.apply(old.read_bytes(), packed, card.bytes, key)
            except (CorruptObject, OSError):  # the old one is damaged, or gone: the whole one will do
                break
            if shards.digest(model) == card.digest:
                return model, len(packed)
    return read_model(store, card), card.stored_bytes or card.bytes


def offer_delta(store: Store, old: VariantCard, new: VariantCard, model: bytes = b"") -> int:
    """Store what makes a variant of an earlier one, for sites that have that, if it is smaller than the whole.

    Args:
        store: where the registry is.
        old: the earlier one.
        new: the variant.
        model: its bytes, where they are at hand.

    Returns:
        Its bytes; 0 if the whole is no larger.
    """
    key = keys.variant(new.model, new.version, new.name, DELTAS, old.digest)
    if old.digest == new.digest or store.exists(key):
        return 0
    try:
        made = shelf.delta(read_model(store, old), model or read_model(store, new))
    except (CorruptObject, ObjectMissing):  # whoever has it cannot have it from here any more
        return 0
    if len(made) >= (new.stored_bytes or new.bytes):
        return 0
    store.put(key, made)
    return len(made)


def read_golden(store: Store, card: VariantCard) -> tuple[Golden, int]:
    """A variant's golden rows, and the bytes that they took.

    Raises:
        CorruptObject: they are not those of the card.
    """
    key = keys.variant(card.model, card.version, card.name, GOLDEN)
    data = store.get(key)
    if shards.digest(data) != card.golden_digest:
        raise CorruptObject(f"{key} is corrupt (its content has another digest than in its card); publish it again")
    return self_test.read(data, key), len(data)
