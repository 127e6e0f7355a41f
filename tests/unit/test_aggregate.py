"""The aggregate's checks: every row of the index once, in order; what is missing, extra or twice is named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.errors import LedgerMismatch
from data_catalog.nouns import Cascade, Escalated, EscalationBudget, Gate, Model, Placement, Plan, Shard, VariantSpec
from infra import keys, ledger
from infra.scoring import Reference
from tasks.aggregate_results import Totals, _Fetched, _miss, merge_shard, require_same_rows

pytestmark = pytest.mark.unit

IDS = [f"edge-1/{row:09d}" for row in range(6)]
CONFIDENCE = [0.9, 0.2, 0.95, 0.3, 0.8, 0.7]
EDGE = [0, 1, 2, 0, 1, 2]
SHARD = Shard(digest="d" * 64, rows=6, bytes=1, raw_bytes=1, origin="edge-1", source="edge-1", first_row=0)
PLACEMENT = Placement(
    shard=SHARD, site="edge-1", variant="v", codec="zstd", key="k", result="ab" * 32, reused=False, reason=""
)
ESCALATED = Escalated(shard="ab" * 32, key="e", digest="x", rows=2, bytes=1, codec="zstd", result="cd" * 32)


def model() -> Model:
    spec = {tier: VariantSpec(recipe="r", runtime="r", tier=tier) for tier in ("edge", "cloud")}
    return Model(
        name="m",
        description="",
        trained_on="d",
        classes=("a", "b", "c"),
        variants=spec,
        gate=Gate(max_drop=1, max_class_drop=1),
    )


def plan(threshold: float) -> Plan:
    cascade = Cascade(
        threshold=threshold,
        temperature=1,
        bound=0.1,
        allowance=0.05,
        escalation=0.3,
        validation_rows=1,
        validation_accuracy=1,
        validation_cloud_accuracy=1,
    )
    return Plan.model_construct(cascades={PLACEMENT.variant: cascade})


def result(ids, prediction, confidence, tier="edge") -> pa.Table:
    data = ledger.write_result(
        pa.array(ids, pa.string()),
        np.array(prediction, np.int32),
        np.array(confidence, np.float32),
        tier,
        "v",
    )
    return ledger.read_result(data, "k")


def records(labels=("a", "b", "c", "a", None, "b"), split="test") -> pa.Table:
    return pa.table([IDS, list(labels), [split] * 6], ledger.RECORDS)


def fetched(edge=None, answer=None, escalated=ESCALATED, **changes) -> _Fetched:
    edge = result(IDS, EDGE, CONFIDENCE) if edge is None else edge
    return _Fetched(PLACEMENT, records(**changes), edge, escalated, answer)


def merge(what: _Fetched, threshold=0.5, reference=None) -> tuple[pa.Table, Totals]:
    totals = Totals()
    return merge_shard(what, plan(threshold), model(), reference, totals), totals


def test_the_clouds_answers_replace_the_edges_where_it_was_unsure():
    table, totals = merge(fetched(answer=result([IDS[1], IDS[3]], [0, 2], [0.99, 0.98], "cloud")))
    assert table["record_id"].to_pylist() == IDS
    assert table["prediction"].to_pylist() == ["a", "a", "c", "c", "b", "c"]
    assert table["edge_prediction"].to_pylist() == ["a", "b", "c", "a", "b", "c"]
    assert table["tier"].to_pylist() == ["edge", "cloud", "edge", "cloud", "edge", "edge"]
    assert table["confidence"].to_pylist() == pytest.approx([0.9, 0.99, 0.95, 0.98, 0.8, 0.7])
    assert (totals.rows_in, totals.rows_out, totals.escalated) == (6, 6, 2)
    assert [(s.record_id, s.edge, s.cloud, s.label) for s in totals.shown] == [
        (IDS[1], "b", "a", "b"),
        (IDS[3], "a", "c", "a"),
    ]


def test_only_labelled_rows_are_scored_and_what_is_not_known_is_not_claimed():
    _, totals = merge(fetched(answer=result([IDS[1], IDS[3]], [0, 2], [1, 1], "cloud")))
    assert totals.scored == 5
    assert totals.right == {"cascade": 2, "edge_only": 4, "cloud_only": 0}
    assert totals.known == {"cascade": 5, "edge_only": 5, "cloud_only": 0}


def test_a_test_row_without_a_judged_answer_is_named():
    some = Reference("answers", np.array(IDS[:-1], object), np.array(EDGE[:-1], np.int32), np.zeros(5, np.int32))
    with pytest.raises(LedgerMismatch, match=f"answers has no answer for the test row {IDS[-1]}"):
        merge(fetched(answer=result([IDS[1], IDS[3]], [0, 2], [1, 1], "cloud")), reference=some)


def test_with_the_judged_answers_all_three_are_known_on_test_rows_only():
    cloud = np.array([0, 1, 2, 0, 1, 1], np.int32)
    reference = Reference("answers", np.array(IDS, object), np.array(EDGE, np.int32), cloud)
    answer = result([IDS[1], IDS[3]], [0, 2], [1, 1], "cloud")
    _, totals = merge(fetched(answer=answer), reference=reference)
    assert (totals.right["cloud_only"], totals.known["cloud_only"]) == (5, 5)
    _, totals = merge(fetched(answer=answer, split="train"), reference=reference)
    assert totals.scored == 0, "rows that a model may have seen do not count"


def test_a_shard_of_which_the_edge_is_sure_needs_no_answer_of_the_cloud():
    table, totals = merge(fetched(escalated=None), threshold=0.1)
    assert set(table["tier"].to_pylist()) == {"edge"}
    assert totals.escalated == 0


def test_a_shard_answered_in_the_cloud_has_no_edge_prediction():
    table, totals = merge(fetched(edge=result(IDS, EDGE, CONFIDENCE, "cloud"), escalated=None), threshold=2.0)
    assert table["edge_prediction"].null_count == 6
    assert (totals.escalated, totals.known["cloud_only"]) == (0, 5)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (IDS[:2] + IDS[3:], f"1 missing ({IDS[2]})"),
        ([*IDS, "edge-1/stray"], "1 extra (edge-1/stray)"),
        ([*IDS, IDS[4], IDS[4]], f"1 duplicate ({IDS[4]})"),
        ([IDS[0], *IDS[:1], *IDS[2:]], f"1 missing ({IDS[1]}); 1 duplicate ({IDS[0]})"),
        (
            ["x1", "x2", "x3", "x4", *IDS[4:]],
            f"4 missing ({', '.join(IDS[:3])}, ...); 4 extra (x1, x2, x3, ...)",
        ),
        (IDS[::-1], "they are in another order"),
        ([], "6 missing"),
    ],
)
def test_rows_that_are_missing_extra_or_twice_are_named(ids, says):
    expected, found = (pa.chunked_array([pa.array(rows, pa.string())]) for rows in (IDS, ids))
    with pytest.raises(LedgerMismatch) as caught:
        require_same_rows("results/ab/k.parquet", expected, found)
    assert str(caught.value).startswith("results/ab/k.parquet does not hold the rows of its shard: ")
    assert says in str(caught.value)
    assert "delete that object and run again" in str(caught.value)


def test_the_same_rows_in_other_chunks_are_the_same():
    require_same_rows("k", pa.chunked_array([IDS]), pa.chunked_array([IDS[:2], IDS[2:]]))


def test_a_result_of_another_shard_is_named():
    with pytest.raises(LedgerMismatch, match=f"^{keys.result(PLACEMENT.result)} does not hold .* 1 missing .* 1 extra"):
        merge(fetched(edge=result([*IDS[:5], "other"], EDGE, CONFIDENCE), escalated=None), threshold=0.0)


def test_an_unsure_row_without_an_answer_is_named():
    with pytest.raises(LedgerMismatch, match=rf"2 missing \({IDS[1]}, {IDS[3]}\)"):
        merge(fetched(escalated=None))


@pytest.mark.parametrize(
    ("ids", "says"),
    [([IDS[1]], "1 missing"), ([IDS[1], IDS[2], IDS[3]], "1 extra"), ([IDS[3], IDS[1]], "another order")],
)
def test_an_answer_to_other_rows_than_the_unsure_ones_is_named(ids, says):
    answer = result(ids, [0] * len(ids), [1.0] * len(ids), "cloud")
    with pytest.raises(LedgerMismatch, match=f"^{keys.result(ESCALATED.result)} .*{says}"):
        merge(fetched(answer=answer))


def test_unsure_rows_that_a_budget_held_keep_the_edges_answer_and_the_reason():
    within = plan(0.5).model_copy(update={"budget": EscalationBudget(rows=1)})
    for ids in ([IDS[1]], []):
        totals = Totals()
        answer = result(ids, [2], [1.0], "cloud") if ids else None
        what = fetched(answer=answer, escalated=ESCALATED if ids else None)
        table = merge_shard(what, within, model(), None, totals)
        assert table["tier"].to_pylist() == ["edge", "cloud" if ids else "edge", *["edge"] * 4]
        assert [bool(reason) for reason in table["reason"].to_pylist()] == [
            i in {1, 3} and IDS[i] not in ids for i in range(6)
        ]
        assert (totals.escalated, totals.held) == (len(ids), 2 - len(ids))
    with pytest.raises(LedgerMismatch, match="1 extra"):
        merge_shard(
            fetched(answer=result([IDS[1], IDS[2]], [2, 2], [1.0, 1.0], "cloud")), within, model(), None, Totals()
        )


def pending(**more) -> tuple[pa.Table, Totals]:
    totals = Totals()
    what = dataclasses.replace(fetched(), waiting=True, **more)
    return merge_shard(what, plan(0.5), model(), None, totals), totals


def test_unsure_rows_that_the_cloud_has_not_answered_keep_the_edges_answer_and_wait():
    table, totals = pending()
    waits = [IDS[i] in {IDS[1], IDS[3]} for i in range(6)]
    assert [status == "edge-pending" for status in table["status"].to_pylist()] == waits
    assert [reason == "waits for the cloud" for reason in table["reason"].to_pylist()] == waits
    assert table["prediction"].to_pylist() == table["edge_prediction"].to_pylist()
    assert set(table["tier"].to_pylist()) == {"edge"}
    assert (totals.pending, totals.held, totals.escalated, totals.rows_out) == (2, 0, 0, 6)


def test_with_a_budget_only_what_it_let_go_waits():
    table, totals = pending(picked=[3])
    assert table["status"].to_pylist() == ["edge", "edge", "edge", "edge-pending", "edge", "edge"]
    assert table["reason"].to_pylist()[1] == "over the budget for escalations"
    assert (totals.pending, totals.held) == (1, 1)


def test_an_answer_of_the_cloud_that_is_no_number_does_not_replace_the_edges():
    answer = result([IDS[1], IDS[3]], [0, 2], [0.0, 0.98], "cloud")
    table, totals = merge(fetched(answer=answer))
    assert table["status"].to_pylist() == ["edge", "edge", "edge", "cloud", "edge", "edge"]
    assert table["prediction"].to_pylist()[1] == "b"
    assert table["reason"].to_pylist() == [None, "the cloud's answer is no number", None, None, None, None]
    assert totals.escalated == 1
    nobody = result(IDS, EDGE, [0.9, 0.0, 0.95, 0.3, 0.8, 0.7])
    table, _ = merge(fetched(edge=nobody, answer=answer))
    assert table["reason"].to_pylist()[1] == "no answer is a number"


def test_a_shard_that_nobody_answered_is_missing_row_by_row():
    totals = Totals()
    _miss(dataclasses.replace(fetched(), result=None), {"edge-1": "it is gone"}, totals)
    (rows,) = totals.missing
    assert rows["record_id"].to_pylist() == IDS
    assert rows.slice(0, 1).to_pylist()[0] | {"record_id": ""} == {
        "record_id": "", "source": "edge-1", "shard": SHARD.digest, "site": "edge-1", "reason": "it is gone"
    }  # fmt: skip
    assert (totals.rows_in, totals.rows_out) == (6, 0)
