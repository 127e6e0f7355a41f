"""Sites that say nothing before a plan, and sites that come after it: what is known of them, and who is waited for."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pytest

from data_catalog.catalog import Catalog
from data_catalog.nouns import CodecTrial, Shard, Site
from data_catalog.orders import Presence
from flows import _dispatching as dispatching
from infra import keys, ledger, newcomers, silence, sources, storage
from infra.pipeline import LATE
from tasks.plan_placement import plan_placement
from tests import watched
from tests.stores import FolderStore

pytestmark = pytest.mark.unit

TRIAL = CodecTrial(codec="none", ratio=1, compress_bytes_per_second=9e9, decompress_bytes_per_second=9e9)
AFAR, HERE = Site(name="afar", tier="edge", dispatch="mailbox"), Site(name="here", tier="edge")


@pytest.fixture
def store(tmp_path):
    yield FolderStore(tmp_path / "store")
    storage.open_store.cache_clear()


def test_the_last_index_of_a_source_is_found_whatever_the_source_holds_now(store):
    dataset = Catalog().dataset("mnist-5k")
    source = dataset.sources[0]
    assert silence.last_index(store, dataset, source) is None, "it was never cut"
    cut = Shard(digest="d", rows=3, bytes=9, raw_bytes=9, origin=source.site, source=source.name, first_row=0)
    store.put(keys.shard_index(dataset.name, source.name, "f"), ledger.write_index([cut], "f", [TRIAL]))
    store.put(keys.latest_index(dataset.name, source.name, sources.lineage(dataset, source)), b"f")
    found = silence.last_index(store, dataset, source)
    assert found is not None
    assert (found.fingerprint, found.shards) == ("f", (cut,))
    other = dataset.model_copy(update={"shard_rows": 7})
    assert silence.last_index(store, other, source) is None, "cut in another way, it is another batch"
    store.put(keys.shard_index(dataset.name, source.name, "f"), b"no index")
    assert silence.last_index(store, dataset, source) is None


def test_what_was_measured_stands_in_and_all_else_is_guessed(store, monkeypatch):
    plan, _, where, profiles = watched.make(store, watched.Speeds({}), monkeypatch)
    card = plan.cards["edge-1"]
    speed = profiles[0].variants[card.digest].model_copy(update={"runtime": card.runtime})
    known = profiles[0].model_copy(update={"variants": {card.digest: speed}})
    assert silence.stand_in(where[0], known, (card,)) == (known, card)
    new = card.model_copy(update={"digest": "new"})
    assert silence.stand_in(where[0], known, (new, card)) == (known, card), "it answers with what it was measured with"
    guessed, chosen = silence.stand_in(where[0], known, (new,))
    assert chosen == new
    assert guessed.variants["new"].rows_per_second == silence.GUESS_ROWS_PER_SECOND
    assert guessed.up_bytes_per_second == known.up_bytes_per_second
    nothing, chosen = silence.stand_in(where[0], None, (new,))
    assert (nothing.site, chosen, set(nothing.variants)) == ("edge-1", new, {"new"})


@pytest.mark.parametrize("residency", ["any", "unsure-rows"])
@pytest.mark.parametrize(
    "silent", [{}, {"edge-1": LATE}, {"edge-1": LATE, "edge-2": LATE, "cloud": LATE}, {"cloud": LATE}]
)
def test_a_silent_site_keeps_what_it_has_and_gets_nothing_else(store, monkeypatch, residency, silent):
    monkeypatch.setattr(storage, "_stand_ins", {})
    storage.stand_in(store)
    plan, _, where, profiles = watched.make(store, watched.Speeds({}), monkeypatch, count=8)
    cards = dict(plan.variants)
    for tier, said, sure in (
        ("edge", [1, 0], [0.1, 0.6]),
        ("cloud", [0, 0], [1.0, 1.0]),
    ):  # the edge is wrong and unsure
        answers = {"record_id": ["a", "b"], "label": pa.array([0, 0], pa.int32()),
                   "prediction": pa.array(said, pa.int32()), "confidence": pa.array(sure, pa.float32())}  # fmt: skip
        store.put(keys.answers("toy", "v", cards[tier].name, "validation"), ledger.parquet(pa.table(answers)))
    dataset = Catalog().dataset("mnist-5k").model_copy(update={"name": "toy", "residency": residency})
    dataset = dataset.model_copy(update={"sources": tuple(
        source.model_copy(update={"site": name, "name": name})
        for source, name in zip(dataset.sources, ("edge-1", "edge-2"), strict=False)
    )})  # fmt: skip
    born = {name: tuple(p.shard for p in plan.placements if p.shard.origin == name) for name in ("edge-1", "edge-2")}
    indexes = [ledger.Index(shards, name, (TRIAL,)) for name, shards in born.items()]
    slow = profiles[1].variants[cards["edge"].digest].model_copy(update={"rows_per_second": 1e-3})
    uneven = [profiles[0], profiles[1].model_copy(update={"variants": {cards["edge"].digest: slow}}), profiles[2]]
    made = plan_placement(
        "r2", dataset, cards, plan.cards, where, uneven, indexes, 0.1, store.bucket, confidence=0, silent=silent
    )
    at = {p.shard.digest: p.site for p in made.placements}
    assert set(at) == {shard.digest for shards in born.values() for shard in shards}
    assert all(name in made.reasons for name in silent)
    if silent and len(silent) < len(where):
        for name in silent:
            assert {digest for digest, site in at.items() if site == name} == {s.digest for s in born.get(name, ())}
    if residency == "any":
        assert "edge-2" not in {at[shard.digest] for shard in born["edge-2"]}, "it is so slow that others answer them"


def test_other_sites_are_waited_for_until_then_and_this_process_is_not_cut_short():
    ended = threading.Event()

    def call(name: str) -> str:
        if name == "here":
            time.sleep(0.4)
        elif name == "afar":
            ended.wait(60)
        return f"{name} answered"

    sites = {"here": HERE, "afar": AFAR, "nobody": None, "quick": AFAR}
    try:
        done, late = dispatching.as_far_as_heard(call, list(sites), sites.get, time.time() + 0.2)
    finally:
        ended.set()
    assert done == {name: f"{name} answered" for name in ("here", "nobody", "quick")}
    assert late == {"afar": LATE}


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "sites").mkdir()
    for name, more in (("comes", ""), ("rests", ""), ("leaves", "draining: true\n")):
        (tmp_path / "sites" / f"{name}.yaml").write_text(f"tier: edge\ndispatch: mailbox\n{more}")
    return Catalog([tmp_path])


def test_a_newcomer_has_to_be_measured_first_and_then_takes_part(store, catalog, monkeypatch):
    plan, _, _, profiles = watched.make(store, watched.Speeds({}), monkeypatch)
    for name, started in (("comes", 200.0), ("rests", 50.0), ("leaves", 200.0)):
        seen = Presence(site=name, host="h", pid=1, version="1", started=started, at=started)
        store.put(keys.presence(name), seen.model_dump_json().encode())

    def come():
        found = newcomers.newcomers(catalog, {"edge-1"}, plan, store, 100.0)
        new = [(site.name, bool(profile)) for site, profile, card in found if card is None]
        return new, [site.name for site, _, card in found if card]

    assert come() == ([("comes", False)], [])
    mine = profiles[0].model_copy(update={"site": "comes", "measured_at": 150.0})
    store.put(keys.profile("comes"), mine.model_copy(update={"variants": {}}).model_dump_json().encode())
    assert come() == ([("comes", True)], []), "of another model"
    store.put(keys.profile("comes"), mine.model_dump_json().encode())
    assert come() == ([], ["comes"])
