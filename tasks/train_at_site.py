"""Train at a site on its own records for one round, and back up what it learnt: weights and counts leave, no record."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.catalog import CLOUD
from data_catalog.errors import BadRecord, CatalogError
from data_catalog.federation import Federation, Round, SiteUpdate
from data_catalog.nouns import Dataset, Model, Source, Split
from infra import federation as rounds
from infra import keys, local_training, shards, sources, storage, weights
from infra.recipes import Examples
from infra.security.access import Keyring

TAUGHT: Split = "train"
HELD_OUT: Split = "validation"


def train_at_site(
    federation: Federation,
    before: Round,
    site: str,
    model: Model,
    dataset: Dataset,
    work: Path,
    home: Path,
    bucket: str,
) -> SiteUpdate:
    """The site's update of the global weights, which is in the store; one of this round that is there is not made again.

    Args:
        federation: says how to train.
        before: the round whose global weights are the beginning.
        site: which one; must be this machine.
        model: whose edge variant is trained.
        dataset: whose sources at the site are read, of the splits `train` and `validation`.
        work: the run's own folder on this machine; the records are kept there for the next round.
        home: the sites' folder on this machine, for keys and the site's own copy.
        bucket: of the store.

    Raises:
        BadInput: there is no TensorFlow at the site.
        CatalogError, BadRecord: the site's data is not what the catalog or the model says, or there is none.
        CorruptObject, StoreError: the global weights cannot be read.
    """
    begun = time.time()
    store = storage.open_store(bucket)
    number = before.number + 1
    key = keys.backup(site, model.name, federation.federation_id, number, rounds.UPDATE)
    there = rounds.read_noun(store, key, SiteUpdate)
    if there and there.origin == before.digest and store.exists(there.key):
        return there
    taught, held_out = (_examples(federation, site, model, dataset, split, work) for split in (TAUGHT, HELD_OUT))
    if not len(taught.y):
        raise BadRecord(f"site {site} has no record of dataset {dataset.name} in split 'train'; leave the site out")
    learnt = local_training.learn(
        model, rounds.read_weights(store, before.weights, before.digest), taught, held_out, federation.local,
        local_training.rate_in(federation.local, number, federation.rounds),
        int(keys.digest_of(federation.federation_id, site, number)[:8], 16),
        frozen=local_training.freezes(number, federation.rounds, federation.start),
    )  # fmt: skip
    data = weights.pack(learnt.weights)
    digest = shards.digest(data)
    restricted = dataset.sensitivity == "restricted"
    stored = keys.backup(
        site, model.name, federation.federation_id, number, f"{digest}.npz{keys.ENCRYPTED if restricted else ''}"
    )
    if restricted:
        what = f"what {site} learnt of {model.name} in federation {federation.federation_id}"
        store.put(stored, Keyring(store, site, home).seal(stored, data, what, [CLOUD]))
    else:
        store.put(stored, data)
    update = SiteUpdate(
        federation_id=federation.federation_id, model=model.name, site=site, round=number, key=stored, digest=digest,
        bytes=len(data), origin=before.digest, rows=len(taught.y), loss=learnt.loss, held_out_rows=len(held_out.y),
        held_out_right=learnt.held_out_right, seconds=time.time() - begun,
    )  # fmt: skip
    rounds.put_noun(store, key, update)
    local_training.keep(home, site, model.name, data)
    rounds.put_noun(store, keys.latest_backup(site, model.name), update)
    return update


def _examples(federation: Federation, site: str, model: Model, dataset: Dataset, split: Split, work: Path) -> Examples:
    """The site's labelled records of a split, on the site's disk from the first round on."""
    path = work / "training" / site / f"{split}.npz"
    if not path.exists():
        parts = [
            _read(federation, source, model, dataset, split, work / "downloads")
            for source in dataset.sources
            if source.site == site
        ]
        x, y, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "ids"))
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{time.time_ns()}-{os.getpid()}.npz")
        np.savez(unfinished, x=x, y=y, ids=ids)
        unfinished.rename(path)
    with np.load(path) as file:
        return Examples(file["x"], file["y"], file["ids"])


def _read(
    federation: Federation, source: Source, model: Model, dataset: Dataset, split: Split, folder: Path
) -> Examples:
    number = {name: i for i, name in enumerate(model.classes)}
    xs, ys, ids = [np.zeros((0, *federation.shape), np.uint8)], [np.zeros(0, np.int64)], [np.zeros(0, "U1")]
    if split in dataset.splits:
        path = sources.local_files(dataset, source, folder)[0]
        at = list(dataset.splits).index(split)
        for records in sources.read_records(dataset, source, path, [split], training=split == TAUGHT):
            labels = [number.get(label, -1) for label in records.labels.to_pylist()]
            if -1 in labels:
                strange = records.labels[labels.index(-1)].as_py()
                raise BadRecord(f"{path}: label {strange!r} is no class of model {model.name}; correct one")
            if records.x.shape[1:] != federation.shape or records.x.dtype != np.uint8:
                raise CatalogError(
                    f"dataset {dataset.name} gives records of {records.x.dtype} and shape {records.x.shape[1:]}, and"
                    f" model {model.name} learns from uint8 of {federation.shape}; correct `transforms`"
                )
            chosen = np.asarray(records.splits) == at
            xs.append(records.x[chosen].astype(np.uint8))
            ys.append(np.array(labels, np.int64)[chosen])
            ids.append(np.array(records.ids.to_pylist(), np.str_)[chosen])
    return Examples(np.concatenate(xs), np.concatenate(ys), np.concatenate(ids))


train_at_site_task = task(name="train at site", task_run_name="train at {site}", cache_policy=NO_CACHE)(train_at_site)
