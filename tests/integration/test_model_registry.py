"""The registry on the real store: what is published stays, a push is undone, two at once are told, sites test first."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, Conflict, CorruptObject, ModelRefused, PlanError, UnknownName
from data_catalog.nouns import Profile, Site, VariantCard, VariantSpeed
from infra import keys, ledger, model_registry, retention, rollout, self_test, shards, sites, sources
from infra.runtimes import RUNTIMES
from tasks.train_model import train_model

pytestmark = pytest.mark.integration

PIXELS, CLASSES = 40, 3


class Linear:
    """A runtime for a model that is one matrix: a variant without training; `off` is what a wrong kernel adds."""

    off = 0.0

    @staticmethod
    def load(model, batch):
        weights = np.load(io.BytesIO(model), allow_pickle=False)

        def predict(x):
            logits = (x.reshape(len(x), -1) @ weights).astype(np.float32)
            logits[:, 0] += Linear.off
            return logits

        return predict

    @staticmethod
    def version():
        return "1"


@pytest.fixture(autouse=True)
def _linear(monkeypatch):
    monkeypatch.setitem(RUNTIMES._loaded, "linear", Linear)
    monkeypatch.setattr(Linear, "off", 0.0)


@pytest.fixture
def name(request):
    """A model of its own for each test: the store is shared."""
    return request.node.name.partition("[")[0].replace("_", "-")[:60]


def weights(seed: int, like: bytes = b"", changed: int = 0) -> bytes:
    """A model; one that is like another differs from it in some weights."""
    random = np.random.default_rng(seed)
    matrix = np.load(io.BytesIO(like)) if like else random.normal(0, 0.01, (PIXELS, CLASSES)).astype(np.float32)
    matrix.flat[:changed] = random.normal(0, 0.01, changed)
    buffer = io.BytesIO()
    np.save(buffer, matrix)
    return buffer.getvalue()


def rows(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, PIXELS)).astype(np.uint8)


def variant(store, model, version="1", tier="edge", seed=1, data=b"", **more) -> VariantCard:
    """Publish one."""
    data = data or weights(seed)
    predict = Linear.load(data, 32)
    card = VariantCard(
        model=model, version=version, tier=tier, recipe="", runtime="linear", runtime_version="1", key="", digest="",
        bytes=0, classes=("a", "b", "c"), shape=(PIXELS,), dtype="uint8", temperature=1.0, validation_rows=64,
        accuracy=1, accuracy_interval=(0, 1), class_accuracy=(1, 1, 1), agreement=1, made_seconds=1, **more,
    )  # fmt: skip
    ids = np.array([f"s/{i:09d}" for i in range(64)])
    answers = model_registry.answer_table(ids, np.zeros(64, int), predict(rows()), 1.0)
    golden = self_test.choose(rows(), predict)
    return model_registry.publish(store, card, data, golden, {"validation": answers}, "model.npy")


def site(name: str, tier: str = "edge", **more) -> Site:
    return Site(name=name, tier=tier, **more)


def test_what_is_published_is_read_again_and_never_written_over(up_store, name):
    card = variant(up_store, name)
    assert model_registry.read_card(up_store, name, "1", "edge") == card
    assert model_registry.read_model(up_store, card) == weights(1)
    assert (card.bytes, card.digest) == (len(weights(1)), shards.digest(weights(1)))
    assert card.stored_bytes == len(up_store.get(card.key)) > 0
    assert variant(up_store, name) == card  # the same once more
    before = {key: up_store.get(key) for key in up_store.keys(keys.models(name))}
    with pytest.raises(Conflict, match=r"published with other bytes"):
        variant(up_store, name, seed=2)
    assert {key: up_store.get(key) for key in up_store.keys(keys.models(name))} == before
    assert b"<html" in up_store.get(keys.variant(name, "1", "edge", "card.html"))
    assert name in model_registry.models(up_store)
    with pytest.raises(UnknownName, match=r"did you mean 'edge'"):
        model_registry.read_card(up_store, name, "1", "egde")


def test_an_object_is_new_or_refused(up_store, name):
    up_store.put_new(f"doctor/{name}", b"mine")
    with pytest.raises(Conflict, match=f"doctor/{name}"):
        up_store.put_new(f"doctor/{name}", b"yours")
    assert up_store.get(f"doctor/{name}") == b"mine"
    up_store.delete(f"doctor/{name}")


def test_answers_of_two_variants_meet_by_record(up_store, name):
    edge, cloud = variant(up_store, name), variant(up_store, name, tier="cloud", seed=2)
    table = model_registry.read_answers(up_store, edge, cloud, "validation")
    assert table["record_id"].to_pylist() == sorted(table["record_id"].to_pylist())
    for card, seed in ((edge, 1), (cloud, 2)):
        assert table[card.tier].to_pylist() == Linear.load(weights(seed), 32)(rows()).argmax(axis=1).tolist()


def test_push_and_rollback(up_store, name):
    old, new = variant(up_store, name, "1"), variant(up_store, name, "2", seed=2)
    here = [site("edge-1"), site("edge-2", group="ships"), site("cloud", "cloud")]

    def told(group):
        log = rollout.pointers(up_store, name).get(group, [])
        return [(entry.version, entry.variant) for entry in rollout.standing(log)]

    with pytest.raises(BadInput, match="nothing to go back from"):
        rollout.rollback(up_store, name, "edge", "me")
    assert rollout.pinned(up_store, name, here) == {}
    for card in (old, new, new):  # pushed twice is pushed once
        rollout.push(up_store, card, "edge", "me")
    assert told("edge") == [("1", "edge"), ("2", "edge")]
    assert told("ships") == []
    assert rollout.pinned(up_store, name, here)["edge"].version == "2"
    assert rollout.pinned(up_store, name, here[1:]) == {}
    back = rollout.rollback(up_store, name, "edge", "you")
    assert (back.version, back.by, back.back) == ("1", "you", True)
    assert told("edge") == [("1", "edge")]
    rollout.push(up_store, new, "edge", "me")
    assert told("edge") == [("1", "edge"), ("2", "edge")]
    for expected in ("1", ""):
        assert rollout.rollback(up_store, name, "edge", "me").version == expected
    assert rollout.pinned(up_store, name, here) == {}  # as the catalog says
    assert len(rollout.pointers(up_store, name)["edge"]) == 6  # and who did what when is known


def test_two_who_push_at_once(up_store, name):
    """Each is told that it did, or that another is at it; what the group answers with is of one who was told it did."""
    cards = [variant(up_store, name, f"{i}", seed=i) for i in range(1, 5)]
    done, refused = [], []
    together = threading.Barrier(len(cards))

    def go(card):
        together.wait()
        try:
            done.append(rollout.push(up_store, card, "edge", card.version))
        except Conflict:
            refused.append(card)

    threads = [threading.Thread(target=go, args=(card,)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(refused) == len(cards)
    log = rollout.pointers(up_store, name).get("edge", [])
    assert sorted(log, key=lambda e: e.serial) == sorted(done, key=lambda e: e.serial)


def test_resolve(up_store, name):
    base = {tier: variant(up_store, name, "1", tier, seed) for tier, seed in (("edge", 1), ("cloud", 2))}
    small = variant(up_store, name, "1", seed=3, name="small")
    other = variant(up_store, name, "2", seed=4)
    where = [site("edge-1"), site("edge-2", group="ships"), site("cloud", "cloud")]

    def resolved(**more):
        return {key: card.name for key, card in rollout.resolve(up_store, name, base, where, **more).items()}

    assert resolved() == {"edge-1": "edge", "edge-2": "edge", "cloud": "cloud"}
    rollout.push(up_store, small, "ships", "me")
    assert resolved() == {"edge-1": "edge", "edge-2": "small", "cloud": "cloud"}
    rollout.push(up_store, other, "edge", "me")
    with pytest.raises(PlanError, match=r"different versions .*group edge answers with 2, group ships answers with 1"):
        resolved()
    rollout.rollback(up_store, name, "ships", "me")
    with pytest.raises(PlanError, match="the run is of version 1"):
        resolved()
    rollout.rollback(up_store, name, "edge", "me")
    rollout.push(up_store, small, "cloud", "me")
    with pytest.raises(PlanError, match="is for the edge, and site cloud is of the cloud"):
        resolved()
    rollout.rollback(up_store, name, "cloud", "me")
    rollout.push(up_store, small, "edge", "me")
    up_store.delete(keys.variant(name, "1", "small", "card.json"))
    with pytest.raises(PlanError, match=f"not published any more.*models rollback {name} --group edge"):
        resolved()


def test_retention(up_store, name):
    cards = {v: variant(up_store, name, v, seed=int(v)) for v in ("1", "2", "3", "4", "5")}
    for v in ("1", "2", "3"):
        rollout.push(up_store, cards[v], "edge", "me")

    def kept(*limits):
        return [known.version for known in retention.examine(up_store, name, *limits) if known.reasons]

    assert kept(1, 0) == ["5", "3"]
    assert kept(1, 1) == ["5", "3", "2"]
    assert kept(2, 9) == ["5", "4", "3", "2", "1"]
    rollout.rollback(up_store, name, "edge", "me")
    assert kept(1, 0) == ["5", "2"]
    profile = profile_of(f"at-{name}"[:60], good={name: "4/edge"})
    up_store.put(keys.profile(profile.site), profile.model_dump_json().encode())
    assert kept(1, 0) == ["5", "4", "2"]
    going = [known.version for known in retention.examine(up_store, name, 1, 0) if not known.reasons]
    assert retention.remove(up_store, name, going) > 0
    assert list(model_registry.versions(up_store, name)) == ["5", "4", "2"]
    assert not [key for v in going for key in up_store.keys(keys.model_version(name, v))]
    up_store.delete(keys.profile(profile.site))


def profile_of(name: str, **more) -> Profile:
    return Profile(
        site=name, host="", cores=1, memory_bytes=1, disk_free_bytes=1, up_bytes_per_second=1, down_bytes_per_second=1,
        latency_seconds=0, dispatch_seconds=0, **more,
    )  # fmt: skip


def test_what_a_site_falls_back_to(up_store, name):
    old, new = variant(up_store, name, "1"), variant(up_store, name, "2", seed=2)
    other = variant(up_store, name, "3", seed=3, preprocessing="another")
    fast = {
        "variants": {card.digest: VariantSpeed(rows_per_second=1, batch=1, startup_seconds=0) for card in (old, other)}
    }

    def found(**more):
        return rollout.fall_back(up_store, new, profile_of("edge-1", **more))

    assert found(good={name: "1/edge"}, **fast) == old
    assert found(**fast) is None  # it has never answered
    assert found(good={name: "1/edge"}) is None  # nor was measured
    assert found(good={name: "3/edge"}, **fast) is None  # it takes other records
    assert found(good={name: "7/edge"}, **fast) is None  # it was removed
    key = keys.answers(name, "1", "edge", "validation")
    ids = np.array(["s/000000001"])
    up_store.put(
        key, ledger.parquet(model_registry.answer_table(ids, np.zeros(1, int), np.zeros((1, 3), np.float32), 1.0))
    )
    assert found(good={name: "1/edge"}, **fast) is None  # it was judged on other rows


def test_a_site_fetches_tests_and_keeps(up_store, name, tmp_path):
    card = variant(up_store, name)
    model, crossed = sites.cached_model(up_store, card, tmp_path)
    assert model == weights(1)
    golden = len(up_store.get(keys.variant(name, "1", "edge", "golden.npz")))
    assert crossed == card.stored_bytes + golden
    assert sites.cached_model(up_store, card, tmp_path) == (model, 0)
    (tmp_path / "models" / card.digest).write_bytes(b"damaged on the disk")
    assert sites.cached_model(up_store, card, tmp_path) == (model, crossed)
    (tmp_path / "models" / card.digest).unlink()
    packed = up_store.get(card.key)
    for damaged in (packed[:-1], packed[:40] + bytes([packed[40] ^ 1]) + packed[41:], b"", b"nonsense"):
        up_store.put(card.key, damaged)
        with pytest.raises(CorruptObject, match=r"card\.json and run again"):
            sites.cached_model(up_store, card, tmp_path)
    up_store.put(card.key, packed)
    up_store.put(keys.variant(name, "1", "edge", "golden.npz"), b"PK")
    with pytest.raises(CorruptObject, match=r"golden\.npz is corrupt"):
        sites.cached_model(up_store, card, tmp_path)
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(("off", "says"), [(10.0, "another class"), (0.08, "a logit is"), (float("nan"), "")])
def test_what_fails_its_self_test_is_not_kept(up_store, name, tmp_path, monkeypatch, off, says):
    card = variant(up_store, name)
    monkeypatch.setattr(Linear, "off", off * float(np.ptp(Linear.load(weights(1), 32)(rows()))))
    with pytest.raises(ModelRefused, match=f"failed its self-test here on linear.*{says}.*push another variant"):
        sites.cached_model(up_store, card, tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_delta_is_used_where_it_is_smaller(up_store, name, tmp_path):
    old = variant(up_store, name, "1")
    near = variant(up_store, name, "2", data=weights(2, weights(1), 9))  # with a delta to the one before
    far = variant(up_store, name, "3", seed=3, name="far")  # the first of its name: there is none
    sites.cached_model(up_store, old, tmp_path)
    model, crossed = sites.cached_model(up_store, near, tmp_path)
    golden = len(up_store.get(keys.variant(name, "2", "edge", "golden.npz")))
    assert model == weights(2, weights(1), 9)
    assert crossed - golden < near.stored_bytes / 2
    golden = len(up_store.get(keys.variant(name, "3", "far", "golden.npz")))
    assert sites.cached_model(up_store, far, tmp_path) == (weights(3), far.stored_bytes + golden)
    rollout.push(up_store, old, "edge", "me")
    rollout.push(up_store, far, "edge", "me")  # from what the group answered with
    assert up_store.exists(keys.variant(name, "3", "far", "deltas", old.digest))
    for path in (tmp_path / "models").iterdir():  # of a damaged old one no delta is made use of
        path.write_bytes(b"damaged")
    assert sites.cached_model(up_store, near, tmp_path)[0] == model


def test_a_run_is_of_the_version_that_was_pushed(up_store, name, tmp_path):
    """Nothing is trained for it; a tier without a variant of its own has the one that was pushed."""
    model = Catalog().model("digits").model_copy(update={"name": name})
    dataset = Catalog().dataset("mnist-5k")
    where = [site("edge-1"), site("cloud", "cloud")]
    same = {"preprocessing": sources.preprocessing_digest(dataset)}
    cloud = variant(up_store, name, "1", "cloud", 2, **same)
    small = variant(up_store, name, "1", name="small", **same)
    rollout.push(up_store, small, "edge", "me")
    assert train_model(model, dataset, tmp_path, up_store.bucket, where) == {"edge": small, "cloud": cloud}
    edge = variant(up_store, name, "1", seed=3, **same)
    assert train_model(model, dataset, tmp_path, up_store.bucket, where) == {"edge": edge, "cloud": cloud}
    for version, more, says in (("2", same, "not a variant for each tier"), ("3", {}, "other transforms")):
        pushed = variant(up_store, name, version, seed=4, name="small", **more)
        if version == "3":
            variant(up_store, name, version, "cloud", 5)
        rollout.push(up_store, pushed, "edge", "me")
        with pytest.raises(PlanError, match=f"{says}.*models rollback {name} --group edge"):
            train_model(model, dataset, tmp_path, up_store.bucket, where)
