"""The coordinator's part of a federation: what is no update, the average of the rest, and what was done so far.

FedAvg: H. B. McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017.
The record of a round names its weights by their digest and is written after them, so a federation that was killed
goes on after the last round that has a record, and takes what the sites sent of the next.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from data_catalog.errors import CorruptObject, UnknownName
from data_catalog.federation import Federation, FederationReport, Round, SiteUpdate
from infra import coordination, keys, shards, storage, weights
from infra.security.access import Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from data_catalog.nouns import Noun
    from infra.averaging import Average
    from infra.storage import Store
    from infra.weights import Weights

    Read = TypeVar("Read", bound=Noun)

PLAN, RECORD, REPORT, UPDATE = "plan.json", "round.json", "report.json", "update.json"
MOST_TIMES_LONGER = 10.0  # than the middle one of a round; sites of unequal rows differ by far less
MOST_TIMES_WEIGHTS = 100.0  # the length of the weights themselves, for a round with nothing to compare


def read_noun(store: Store, key: str, noun: type[Read]) -> Read | None:
    """The noun of that key, or None.

    Raises:
        CorruptObject: the object is something else.
    """
    return storage.read_noun(store, key, noun, f"no {noun.__name__}")


def put_noun(store: Store, key: str, noun: Noun) -> None:
    """Store a noun."""
    store.put(key, noun.model_dump_json(indent=1).encode())


def put_weights(store: Store, model: str, federation_id: str, number: int, arrays: Weights) -> tuple[str, str]:
    """Store the global weights of a round; their key and digest."""
    data = weights.pack(arrays)
    digest = shards.digest(data)
    key = keys.federation_round(model, federation_id, number, f"{digest}.npz")
    store.put(key, data)
    return key, digest


def read_weights(store: Store, key: str, digest: str) -> list[NDArray[np.float32]]:
    """The global weights of that key.

    Raises:
        CorruptObject: they are not those of the digest.
    """
    data = store.get(key)
    if shards.digest(data) != digest:
        raise _corrupt(key)
    return weights.unpack(data, key)


def _corrupt(key: str) -> CorruptObject:
    return CorruptObject(f"{key} is corrupt (its content has another digest); delete that object and run again")


def rounds_of(store: Store, federation: Federation) -> list[Round]:
    """What was done so far; the first is the start, number 0."""
    done = [Round(
        number=0, weights=federation.weights, digest=federation.digest, updates=(), left_out={}, length=0.0
    )]  # fmt: skip
    while found := read_noun(store, _record(federation, len(done)), Round):
        done.append(found)
    return done


def put_round(store: Store, federation: Federation, done: Round) -> None:
    """Commit a round: its weights are in the store; Conflict if another coordinator has taken over."""
    coordination.admit(keys.federations(federation.model))
    put_noun(store, _record(federation, done.number), done)


def _record(federation: Federation, number: int) -> str:
    return keys.federation_round(federation.model, federation.federation_id, number, RECORD)


def is_finished(store: Store, model: str, federation_id: str) -> bool:
    """Whether a federation has a report."""
    return store.exists(keys.federation(model, federation_id, REPORT))


def finish(store: Store, report: FederationReport) -> None:
    """Store the report: the federation is done."""
    coordination.admit(keys.federations(report.federation.model))
    put_noun(store, report.key, report)


def backup(store: Store, site: str, model: str, number: int | None) -> SiteUpdate:
    """The description of what a site learnt of a model, in its last federation.

    Args:
        store: has the backups.
        site: whose.
        model: of which model.
        number: of the round; None: its last.

    Raises:
        UnknownName: the site learnt nothing of that model, or not in that round.
        CorruptObject: the object is something else.
    """
    latest = read_noun(store, keys.latest_backup(site, model), SiteUpdate)
    if latest is None:
        held = {key.split("/")[1] for key in store.keys("sites") if key.endswith(f"/training/{model}/latest.json")}
        raise UnknownName.among(f"site with a backup of {model}", site, held)
    if number is None:
        return latest
    found = read_noun(store, keys.backup(site, model, latest.federation_id, number, UPDATE), SiteUpdate)
    if found is None:
        folder = f"{keys.training(site, model)}/{latest.federation_id}/"
        there = {str(int(key.removeprefix(folder)[:4])) for key in store.keys(folder.rstrip("/"))}
        raise UnknownName.among(f"round of site {site} in federation {latest.federation_id}", str(number), there)
    return found


def read_update(store: Store, update: SiteUpdate, reader: str, home: Path) -> bytes:
    """The NPZ that a site sent.

    Args:
        store: has it.
        update: describes it.
        reader: the site that reads it, for the key of one that is encrypted.
        home: the sites' folder on this machine.

    Raises:
        CorruptObject: it is not what the site described.
        KeyMissing: it is encrypted, and not for the reader.
    """
    data = store.get(update.key)
    if keys.is_encrypted(update.key):
        data = Keyring(store, reader, home).open(update.key, data)
    if shards.digest(data) != update.digest:
        raise _corrupt(update.key)
    return data


def fault(update: SiteUpdate, arrays: Weights, before: Round, origin: Weights) -> str:
    """Why what a site sent is no update of the weights that the round began with; empty if it is one."""
    if update.origin != before.digest:
        return "it was made from other weights than those of this round"
    if [array.shape for array in arrays] != [array.shape for array in origin]:
        return "its weights have other shapes than the net's"
    if not all(np.isfinite(array).all() for array in arrays) or not np.isfinite(update.loss):
        return "it has values that are not finite"
    return ""


def too_long(lengths: Mapping[str, float], origin: Weights) -> dict[str, str]:
    """By site: why its step is left out as absurd, where it is.

    Args:
        lengths: by site, from the weights that the round began with to those that it sent.
        origin: the weights that the round began with.
    """
    if not lengths:
        return {}
    most = MOST_TIMES_WEIGHTS * max(1.0, weights.length(origin, [np.zeros_like(array) for array in origin]))
    # the lower of the middle two: of two sites the longer is the one to doubt
    most = min(most, MOST_TIMES_LONGER * statistics.median_low(lengths.values())) if len(lengths) > 1 else most
    return {
        site: f"its step is {length:.3g} long, over {most:.3g}, the most that is taken"
        for site, length in lengths.items()
        if length > most
    }


def averaged(average: Average, sent: Sequence[Weights], rows: Sequence[int]) -> list[NDArray[np.float32]]:
    """The global weights: the average, array by array, in float64."""
    counts = np.array(rows, np.int64)
    return [
        average.average(np.stack(arrays).astype(np.float64), counts).astype(np.float32)
        for arrays in zip(*sent, strict=True)
    ]
