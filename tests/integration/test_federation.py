"""Four sites learn what none of them has, on a real store: sites that die, that send NaN, and a coordinator that does."""

from __future__ import annotations

import io
import json
import os
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, CatalogError, SiteFailed, UnknownName
from data_catalog.federation import LocalTraining, SiteUpdate
from infra import federation, keys, shards, weights
from infra.pipeline import in_time
from tasks.average_updates import average_updates
from tasks.begin_federation import begin_federation
from tasks.train_at_site import train_at_site
from tests.federations import SITES, write_catalog

pytestmark = pytest.mark.integration

LOCAL = LocalTraining(epochs=2, batch=16, learning_rate=0.008)
ROUNDS = 5
CARDS = {"edge": SimpleNamespace(shape=(28, 28, 1))}  # all that a fresh start looks at


@pytest.fixture
def place(tmp_path, up_store, quick_catalog):
    """Catalog entries, and what every step needs to know."""
    records = write_catalog(tmp_path)
    entries = Catalog([tmp_path, quick_catalog])
    return SimpleNamespace(
        model=entries.model("quick"), dataset=entries.dataset("skewed"), records=records, store=up_store, folder=tmp_path,
        bucket=up_store.bucket, work=tmp_path / "work", home=tmp_path / "home",
    )  # fmt: skip


def begin(place, average="mean", quorum=0, dataset=None, sites=()):
    return begin_federation(
        place.model, dataset or place.dataset, sites, ROUNDS, average, LOCAL, "fresh", quorum, CARDS, place.bucket
    )


def train(place, plan, before, site, dataset=None):
    return train_at_site(
        plan, before, site, place.model, dataset or place.dataset, place.work, place.home, place.bucket
    )


def average(place, plan, before, answers):
    return average_updates(plan, before, dict(zip(plan.sites, answers, strict=True)), place.home, place.bucket)


def send_nan(place, plan, before, site):
    """What a site whose training blew up has in the store."""
    broken = federation.read_weights(place.store, before.weights, before.digest)
    broken[0][...] = np.nan
    data = weights.pack(broken)
    key = keys.backup(site, plan.model, plan.federation_id, before.number + 1, "broken.npz")
    place.store.put(key, data)
    update = SiteUpdate(
        federation_id=plan.federation_id, model=plan.model, site=site, round=before.number + 1, key=key,
        digest=shards.digest(data), bytes=len(data), origin=before.digest, rows=300, loss=0.1, held_out_rows=0,
        held_out_right=0, seconds=1.0,
    )  # fmt: skip
    described = keys.backup(site, plan.model, plan.federation_id, before.number + 1, federation.UPDATE)
    federation.put_noun(place.store, described, update)


def test_a_federation_with_dead_and_broken_sites_and_a_killed_coordinator(place):
    there = set(place.store.keys(""))
    plan = begin(place)
    assert plan.quorum == 3
    real = (place.folder / "edge-4.npz").read_bytes()
    (place.folder / "edge-4.npz").unlink()
    os.mkfifo(place.folder / "edge-4.npz")  # whoever opens it waits for ever
    done = federation.rounds_of(place.store, plan)

    for number in (1, 2):
        sent = [train(place, plan, done[-1], site) for site in SITES[:3]]
        waited = in_time(partial(train, place, plan, done[-1]), SITES, 3.0)  # those three are not trained again
        assert waited[:3] == sent
        done.append(average(place, plan, done[-1], waited))
        assert list(done[number].left_out) == ["edge-4"]
        assert "no answer within 3 s" in done[number].left_out["edge-4"]
    (place.folder / "edge-4.npz").unlink()
    (place.folder / "edge-4.npz").write_bytes(real)

    train(place, plan, done[-1], "edge-1")  # and the coordinator is killed
    again = begin(place)
    assert again == plan
    assert federation.rounds_of(place.store, again) == done
    kept = place.store.get(keys.backup("edge-1", "quick", plan.federation_id, 3, federation.UPDATE))
    send_nan(place, plan, done[-1], "edge-2")
    done.append(average(place, plan, done[-1], [train(place, plan, done[-1], site) for site in SITES]))
    assert done[3].left_out == {"edge-2": "it has values that are not finite"}
    assert done[3].updates[0].model_dump_json(indent=1).encode() == kept, "what was sent before the kill is used"
    for _ in range(4, ROUNDS + 1):
        done.append(average(place, plan, done[-1], [train(place, plan, done[-1], site) for site in SITES]))
        assert done[-1].left_out == {}

    last = done[-1].updates
    rows, right = sum(update.held_out_rows for update in last), sum(update.held_out_right for update in last)
    assert right / rows > 0.65, "no site has more than half of the classes"
    assert federation.rounds_of(place.store, plan) == done
    check_nothing_but_weights_and_counts(place, plan, set(place.store.keys("")) - there)

    number, (site, *_) = 2, SITES
    found = federation.backup(place.store, site, "quick", number)
    arrays = weights.unpack(federation.read_update(place.store, found, site, place.home), found.key)
    assert shards.digest(weights.pack(arrays)) == done[number].updates[0].digest
    assert federation.backup(place.store, site, "quick", None) == last[0]
    with pytest.raises(UnknownName, match=r"no round of site edge-1 .* is called '9'"):
        federation.backup(place.store, site, "quick", 9)
    with pytest.raises(UnknownName, match="did you mean 'edge-1'"):
        federation.backup(place.store, "edge-11", "quick", None)


def check_nothing_but_weights_and_counts(place, plan, written):
    """Every object is a noun of numbers and names or has the arrays of the net; no record is in any, in any dtype."""
    shapes = [array.shape for array in federation.read_weights(place.store, plan.weights, plan.digest)]
    x = place.records.reshape(len(place.records), -1)
    pieces = [
        piece
        for part in (x, x.astype(np.float32), x.astype(np.float32) / 255)
        for piece in (row[350:420].tobytes() for row in part)
        if np.count_nonzero(np.frombuffer(piece, np.uint8)) > 40
    ]
    assert len(pieces) > 1000
    assert len(written) > 2 * ROUNDS * 3
    for key in written:
        data = place.store.get(key)
        assert key.startswith(("federations/quick/", *(f"sites/{site}/training/quick/" for site in SITES)))
        if key.endswith(".npz"):
            with np.load(io.BytesIO(data)) as file:
                assert [file[name].shape for name in file] == shapes
        else:
            assert key.endswith(".json")
            assert b"/0000" not in data.replace(key.encode(), b"").replace(b"/0000/", b""), "a record's id"
            assert all(not isinstance(value, list) or value != [] for value in json.loads(data).values())
        assert not any(piece in data for piece in pieces), f"{key} holds a record"


@pytest.fixture
def own_pairs(place):
    """Sites whose key pairs are made here: other tests' homes have those of their runs."""
    names = [keys.public_key(site) for site in (*SITES, "cloud")]
    before = {name: place.store.get(name) for name in names if place.store.exists(name)}
    for name in before:
        place.store.delete(name)
    yield
    for name in names:
        place.store.delete(name)
    for name, public in before.items():
        place.store.put(name, public)


def test_a_restricted_dataset_sends_sealed_updates(place, own_pairs):
    secret = place.dataset.model_copy(update={"sensitivity": "restricted", "sources": place.dataset.sources[:2]})
    plan = begin(place, dataset=secret, average="median")
    start = federation.rounds_of(place.store, plan)[0]
    sent = [train(place, plan, start, site, secret) for site in plan.sites]
    for update in sent:
        assert update.key.endswith(".npz.enc")
        assert (
            weights.pack(federation.read_weights(place.store, start.weights, start.digest))[:4]
            not in place.store.get(update.key)[:64]
        )
    done = average(place, plan, start, sent)
    assert [update.site for update in done.updates] == list(plan.sites)
    restored = federation.read_update(place.store, sent[0], "edge-1", place.home)
    assert shards.digest(restored) == sent[0].digest


def test_too_few_sites_stop_the_round_and_it_goes_on(place):
    plan = begin(place, quorum=2, sites=SITES[:2])
    start = federation.rounds_of(place.store, plan)[0]
    sent = train(place, plan, start, "edge-1")
    with pytest.raises(SiteFailed, match=r"round 1 .* has 1 updates, fewer than the quorum of 2 \(edge-2: gone\)"):
        average(place, plan, start, [sent, TimeoutError("gone")])
    stale = sent.model_copy(update={"site": "edge-2", "origin": "0" * 64})
    with pytest.raises(SiteFailed, match="edge-2: it was made from other weights"):
        average(place, plan, start, [sent, stale])
    done = average(place, plan, start, [sent, sent.model_copy(update={"site": "edge-2"})])
    assert done.number == 1
    assert federation.read_weights(place.store, done.weights, done.digest)[0].shape == (3, 3, 1, 4)


def test_what_cannot_begin(place):
    with pytest.raises(CatalogError, match="no source at site cloud"):
        begin(place, sites=("cloud",))
    with pytest.raises(BadInput, match="a quorum of 5 is more than the 4 sites"):
        begin(place, quorum=5)
    with pytest.raises(UnknownName, match=r"no average is called 'meen'.*did you mean 'mean'"):
        begin(place, average="meen")
    with pytest.raises(CatalogError, match="no split 'train'"):
        begin(place, dataset=place.dataset.model_copy(update={"splits": {}}))


def test_a_late_site_changes_nothing():
    released = threading.Event()

    def call(item):
        if item == "late":
            released.wait(20)
        if item == "broken":
            raise ValueError(item)
        return item

    answers = in_time(call, ["fine", "late", "broken"], 0.3)
    released.set()
    assert answers[0] == "fine"
    assert isinstance(answers[1], TimeoutError)
    assert isinstance(answers[2], ValueError)
