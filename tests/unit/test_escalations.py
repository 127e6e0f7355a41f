"""What the engine escalates: answers that are no numbers, sure or tied; rows that could not be sent; rows that were picked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.errors import ModelRefused, StoreUnreachable
from data_catalog.nouns import EscalationOrder, OrderedShard, VariantCard
from infra import engine, keys, ledger, shards
from infra.codecs import CODECS
from infra.runtimes import RUNTIMES

pytestmark = pytest.mark.unit

CARD = VariantCard(
    model="m", version="v", tier="edge", recipe="r", runtime="given", runtime_version="1", key="k", digest="d", bytes=1,
    classes=("a", "b", "c"), shape=(4,), dtype="uint8", temperature=1.0, validation_rows=1, accuracy=1.0,
    accuracy_interval=(1.0, 1.0), class_accuracy=(1.0,) * 3, agreement=1.0, made_seconds=0.0,
)  # fmt: skip
NAN, INF = float("nan"), float("inf")


class Memory(dict):
    """A store of one process, with a link that may fail for escalated rows."""

    reachable = True
    get = dict.__getitem__

    def put(self, key: str, data: bytes) -> None:
        if key.startswith("escalations/") and not self.reachable:
            raise StoreUnreachable(key)
        self[key] = data

    def exists(self, key: str) -> bool:
        return key in self


def order(**changes: object) -> EscalationOrder:
    given = {"threshold": 0.9, "temperature": 1.0, "codec": "zstd", "cloud_variant": "c", "preprocessing": "p"}
    return EscalationOrder.model_validate(given | changes)


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """Run the engine on a shard of as many rows as there are logits, with a runtime that returns these."""
    monkeypatch.delenv("CLOUDEDGE_BUCKET", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    def run(logits, escalation=None, store=None):
        logits, store = np.asarray(logits, np.float32), Memory() if store is None else store
        runtime = SimpleNamespace(load=lambda model, batch: lambda x: logits, version=lambda: "1")
        monkeypatch.setitem(RUNTIMES._loaded, "given", runtime)
        rows = len(logits)
        x = np.arange(rows * 4, dtype=np.uint8).reshape(rows, 4)
        plain = shards.encode(pa.array([f"e/{i:09d}" for i in range(rows)]), x)
        shard = OrderedShard(
            key="datasets/d/shards/s.arrow.zstd", digest=shards.digest(plain), rows=rows, bytes=len(plain), codec="zstd",
            result="r1", local=True,
        )  # fmt: skip
        store.put(shard.key, CODECS.get("zstd").compress(plain))
        block = engine.Block("edge-1", CARD, 2, escalation or order(), (shard,), store, tmp_path)
        done = engine.run_block(block, engine.Predictors(CARD, b"", 2, 1))
        return done, store, block

    return run


def result_of(store) -> pa.Table:
    return ledger.read_result(store[keys.result("r1")], "r1")


def sent_rows(store, done) -> list[str]:
    return [
        name
        for e in done.escalated
        for name in shards.decode(shards.unpack(store[e.key], e.codec, e.bytes, e.digest, e.key))[0].to_pylist()
    ]


@pytest.mark.parametrize("threshold", [0.4, 0.9, 2.0])
@pytest.mark.parametrize(
    "row", [[NAN, 9, 0], [NAN] * 3, [INF, 0, 0], [-INF] * 3, [INF, INF, -INF], [INF, NAN, 0]], ids=str
)
def test_an_answer_that_is_no_number_always_escalates(answer, row, threshold):
    done, store, _ = answer([[9, 0, 0], row], order(threshold=threshold))
    assert result_of(store)["confidence"].to_pylist()[1] == 0
    assert "e/000000001" in sent_rows(store, done)


def test_its_class_is_the_likeliest_of_the_numbers(answer):
    _, store, _ = answer([[NAN, 1, 9], [NAN, NAN, NAN], [0, INF, NAN]])
    assert result_of(store)["prediction"].to_pylist() == [2, 0, 1]


def test_a_detector_that_finds_nothing_is_sure_of_nothing(answer):
    done, store, _ = answer(np.zeros((3, 0)))
    assert result_of(store)["confidence"].to_pylist() == [0, 0, 0]
    assert len(sent_rows(store, done)) == 3


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 7), (2,), (1, 3), (4, 3)])
def test_a_model_whose_output_is_no_logit_for_each_class_is_refused_in_a_line(answer, monkeypatch, shape):
    _, store, block = answer(np.zeros((2, 3)))
    predict = SimpleNamespace(load=lambda model, batch: lambda x: np.zeros(shape, np.float32), version=lambda: "1")
    monkeypatch.setitem(RUNTIMES._loaded, "given", predict)
    store.pop(keys.result("r1"))
    with pytest.raises(ModelRefused, match=r"\(2, 3\) logits are needed, one for each class") as caught:
        engine.run_block(block, engine.Predictors(CARD, b"", 2, 1))
    assert "\n" not in str(caught.value)
    assert keys.result("r1") not in store


def test_rows_that_are_exactly_sure_stay_or_go_together(answer):
    logits = [[1000, 0, 0], [0, 500, 0], [3, 2, 1]]
    for threshold, going in ((1.0, 1), (2.0, 3)):
        done, store, _ = answer(logits, order(threshold=threshold))
        assert result_of(store)["confidence"].to_pylist()[:2] == [1, 1]
        assert len(sent_rows(store, done)) == going


def test_of_equal_logits_the_first_class_is_said_and_the_row_escalates(answer):
    done, store, _ = answer([[5, 5, 5], [1, 7, 7], [90, 0, 0]])
    assert result_of(store)["prediction"].to_pylist() == [0, 1, 0]
    assert sent_rows(store, done) == ["e/000000000", "e/000000001"]


LOGITS = [[2, 1, 0], [9, 0, 0], [1, 1, 0], [3, 1, 0], [99, 0, 0]]


def test_rows_that_cannot_be_sent_are_not_lost_and_are_sent_later_once(answer):
    whole, straight, _ = answer(LOGITS)
    store = Memory()
    store.reachable = False
    done, _, block = answer(LOGITS, store=store)
    assert store[keys.result("r1")] == straight[keys.result("r1")]
    (waiting,) = done.escalated
    assert not waiting.sent
    assert done.wan_out == len(store[keys.result("r1")])
    store.reachable = True
    picked = order(picked=((0, 2), (0, 0), (0, 3)))
    again = engine.Block(block.site, CARD, 2, picked, block.shards, store, block.home)
    late = engine.escalate_picked(again)
    assert late.escalated == whole.escalated
    assert store[waiting.key] == straight[waiting.key]
    assert late.wan_out == len(store[waiting.key])
    assert engine.escalate_picked(again).wan_out == 0
    assert engine.escalate_picked(again).escalated == whole.escalated


def test_of_what_does_not_fit_the_bytes_that_stays_which_gains_least(answer):
    _, store, block = answer(np.tile(LOGITS[:1], (60, 1)), order(held=True))
    ranked = tuple((0, row) for row in np.random.default_rng(0).permutation(60).tolist())

    def sent(most: int | None) -> tuple[engine.BlockDone, list[str]]:
        limited = order(picked=ranked, most_bytes=most)
        done = engine.escalate_picked(engine.Block(block.site, CARD, 2, limited, block.shards, store, block.home))
        return done, sent_rows(store, done)

    everything = sent(None)[0].wan_out
    some, names = sent(everything - 40)
    assert 0 < some.wan_out <= everything - 40
    assert sorted(names) == sorted(f"e/{row:09d}" for _, row in ranked[: len(names)])
    assert some.held_rows == 60 - len(names) > 0
    assert sent(10)[0].escalated == ()


def test_nothing_is_sent_while_which_rows_go_is_not_chosen(answer):
    done, store, _ = answer(LOGITS, order(held=True))
    assert done.escalated == ()
    assert not any(key.startswith("escalations/") for key in store)
    assert ledger.packed_in(result_of(store)) is None
