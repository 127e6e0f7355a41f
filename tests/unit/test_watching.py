"""A run under watch, with the real engine: who falls behind, fails or falls silent loses its shards to others, and no row."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from data_catalog.errors import SiteFailed, StoreUnreachable
from data_catalog.nouns import EscalationBudget, Receipt, Site, WorkOrder
from data_catalog.replanning import OrderProgress, Withdrawal
from infra import keys, ledger, oversight, plan_table, receipts, replanning, settlement, storage
from infra.problem import RESULT_BYTES, RESULT_BYTES_PER_ROW, from_json, place_site, problem_of
from infra.watching import Joined
from tasks.infer_shards import infer_shards
from tasks.order_sends import order_sends
from tests.stores import FolderStore
from tests.watched import QUICK, ROWS, Speeds, card, make, run

pytestmark = pytest.mark.unit


class Counted(FolderStore):
    """Counts what is asked of the store."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.gets: list[str] = []

    def get(self, key):
        self.gets.append(key)
        return super().get(key)

    def size(self, key):
        return (self.folder / key).stat().st_size


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(oversight, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(replanning, "START_SECONDS", 0.5)
    monkeypatch.setattr(storage, "_stand_ins", {})
    monkeypatch.delenv("CLOUDEDGE_BUCKET", raising=False)
    made = Counted(tmp_path / "store")
    storage.stand_in(made)
    yield made
    storage.open_store.cache_clear()


def results(store, plan):
    """Rows of all shards, as the plan says where they lie: ids, answers, confidences."""
    tables = {p.shard.digest: ledger.read_result(store.get(keys.result(p.result)), p.result) for p in plan.placements}
    return {name: table.select(["record_id", "prediction", "confidence"]) for name, table in tables.items()}


def undisturbed(tmp_path, monkeypatch, **changes):
    """The same run where nothing goes wrong, in a store of its own."""
    other = Counted(tmp_path / "undisturbed")
    storage.stand_in(other)
    try:
        made = make(other, Speeds({}), monkeypatch, **changes)
        done = run(other, *made, tmp_path / "home-undisturbed")
        assert not done.replanned
        return results(other, made[0]), {e.shard for r in done.receipts for e in r.escalated}
    finally:
        storage._stand_ins.clear()
        storage.open_store.cache_clear()


@pytest.fixture
def plain(tmp_path, monkeypatch):
    return undisturbed(tmp_path, monkeypatch)


def counted(done):
    return sum(receipt.shards for receipt in done.receipts)


def require_whole(store, plan, done, plain):
    """Every row once, as undisturbed; escalated is what was, of the results that count."""
    assert results(store, done.plan) == plain[0]
    assert [p.shard for p in done.plan.placements] == [p.shard for p in plan.placements]
    of_the_plan = {p.result for p in done.plan.placements}
    assert {e.shard for r in done.receipts for e in r.escalated} & of_the_plan == {
        e for e in plain[1] if e in of_the_plan
    }


def test_a_run_that_goes_well_is_left_alone(store, tmp_path, monkeypatch):
    made = make(store, Speeds({}), monkeypatch)
    done = run(store, *made, tmp_path / "home", patience=dataclasses.replace(QUICK, look=30.0, longest_look=30.0))
    assert done.plan == made[0]
    assert not done.replanned
    assert not done.sent
    assert [r.order_id for r in done.receipts if r.withdrawn] == []
    assert counted(done) == 24
    assert not [key for key in store.gets if "/progress/" in key]


def test_a_slow_site_loses_shards_to_the_others(plain, store, tmp_path, monkeypatch):
    storage.stand_in(store)
    speeds = Speeds({"edge-1": 0.5})
    plan, *_ = made = make(store, speeds, monkeypatch)
    done = run(store, *made, tmp_path / "home")
    require_whole(store, plan, done, plain)
    assert done.replanned[0].moved > 0
    assert "edge-1 is behind" in done.replanned[0].why
    moved = [p for p in done.plan.placements if p.site != p.shard.origin]
    assert moved
    assert {p.shard.origin for p in moved} == {"edge-1"}
    assert all("moved to" in p.reason for p in moved)
    assert speeds.calls["edge-1"] < 12
    first = next(r for r in done.receipts if r.order_id == "edge-1")
    assert first.withdrawn
    assert first.shards + len(first.withdrawn) == 12
    assert first.wan_out > 0
    assert sum(n for _, n in done.sent) >= sum(store.size(p.key) for p in moved)
    stored = store.get(done.replanned[-1].plan)
    assert done.plan.model_dump_json(indent=1).encode() == stored
    assert {r.order_id for r in done.receipts} > {"edge-1", "edge-2"}
    assert Receipt.model_validate_json(store.get(keys.receipt("r1", "edge-1"))) == first


def test_a_site_that_fails_is_done_without(plain, store, tmp_path, monkeypatch):
    storage.stand_in(store)
    plan, *_ = made = make(store, Speeds({"edge-2": 0.05}, broken={"edge-2": 5}), monkeypatch)
    done = run(store, *made, tmp_path / "home", patience=dataclasses.replace(QUICK, look=30.0, longest_look=30.0))
    require_whole(store, plan, done, plain)
    lost = next(r for r in done.receipts if r.site == "edge-2")
    assert "the accelerator is gone" in lost.lost
    assert lost.shards <= 5
    assert "the accelerator is gone" in done.replanned[0].why
    assert done.replanned[0].moved == 12 - lost.shards
    assert {p.site for p in done.plan.placements if p.shard.origin == "edge-1"} == {"edge-1"}, "these had no reason to"


def test_a_site_that_cannot_be_reached_at_all(plain, store, tmp_path, monkeypatch):
    storage.stand_in(store)
    plan, *_ = made = make(store, Speeds({}), monkeypatch)
    done = run(store, *made, tmp_path / "home", refuse={"edge-1"})
    require_whole(store, plan, done, plain)
    assert "edge-1" not in {p.site for p in done.plan.placements}


def test_a_site_that_falls_silent_is_done_without(plain, store, tmp_path, monkeypatch):
    """Its process is gone, so nobody says so; by the plan it is not late."""
    storage.stand_in(store)
    speeds = Speeds({}, stuck={"edge-2"})
    plan, *_ = made = make(store, speeds, monkeypatch, planned=5.0)
    monkeypatch.setattr(oversight.Oversight, "_tell", lambda self: None if self._order.site == "edge-2" else TELL(self))
    done = run(
        store, *made, tmp_path / "home", patience=dataclasses.replace(QUICK, look=1.5, longest_look=1.5, lease=1.0)
    )
    speeds.freed.set()
    require_whole(store, plan, done, plain)
    assert "edge-2 has given no sign of life" in done.replanned[0].why
    assert done.replanned[0].moved == 12


TELL = oversight.Oversight._tell


def test_a_straggler_is_answered_by_an_idle_site_too(plain, store, tmp_path, monkeypatch):
    """The last shard of a site hangs, and cannot be taken back; its process goes on saying that it lives."""
    storage.stand_in(store)
    speeds = Speeds({}, stuck={"edge-2"})
    plan, *_ = made = make(store, speeds, monkeypatch)
    done = run(store, *made, tmp_path / "home")
    speeds.freed.set()
    require_whole(store, plan, done, plain)
    assert sum(each.duplicated for each in done.replanned) >= 1
    assert "edge-2" not in {p.site for p in done.plan.placements}


def test_where_bytes_are_capped_a_straggler_is_waited_for(plain, store, tmp_path, monkeypatch):
    """What it has not begun goes elsewhere, within the cap; what it has begun is sent to nobody else."""
    storage.stand_in(store)
    speeds = Speeds({}, stuck={"edge-2"})
    plan, problem, *rest = make(store, speeds, monkeypatch)
    threading.Timer(5.0, speeds.freed.set).start()
    done = run(store, plan, dataclasses.replace(problem, caps={"bytes": 1e9}), *rest, tmp_path / "home")
    require_whole(store, plan, done, plain)
    assert sum(each.moved for each in done.replanned) > 0
    assert sum(each.duplicated for each in done.replanned) == 0
    assert "edge-2" in {p.site for p in done.plan.placements}


def test_no_more_moves_than_the_floor_of_accuracy_allows(plain, store, tmp_path, monkeypatch):
    """What has been answered counts: half of all by an edge that is right half of the time, and six more may be."""
    storage.stand_in(store)
    plan, problem, *rest = make(store, Speeds({"edge-1": 0.5}), monkeypatch)

    def with_accuracy(site):
        right = 1.0 if site.name == "edge-1" else 0.5
        return dataclasses.replace(site, variants=(dataclasses.replace(site.variants[0], accuracy=right),))

    sites = tuple(map(with_accuracy, problem.sites))
    done = run(store, plan, dataclasses.replace(problem, sites=sites, accuracy=0.625), *rest, tmp_path / "home")
    require_whole(store, plan, done, plain)
    assert 0 < sum(p.site != "edge-1" for p in done.plan.placements if p.shard.origin == "edge-1") <= 6
    assert {p.site for p in done.plan.placements if p.shard.origin == "edge-2"} == {"edge-2"}


def test_what_a_run_solves_anew_is_what_was_asked_of_it(store, monkeypatch):
    plan, _, where, profiles = make(store, Speeds({}), monkeypatch)
    plan = plan.model_copy(update={"accuracy_floor": 0.9, "caps": {"bytes": 2e7}, "objective": "money"})
    trials = {p.shard.source: [] for p in plan.placements}
    again = problem_of(plan, SimpleNamespace(residency="any"), where, profiles, trials)
    assert (again.accuracy, again.caps, again.objective) == (0.9, {"bytes": 2e7}, "money")
    assert (again.result_bytes, again.result_row_bytes) == (RESULT_BYTES, RESULT_BYTES_PER_ROW)


def test_a_plan_that_was_changed_says_what_it_costs_as_it_is(store, tmp_path, monkeypatch):
    plan, *rest = make(store, Speeds({"edge-1": 0.5}), monkeypatch)
    plan = plan.model_copy(
        update={"lower_bound": 0.01, "gap": 0.0, "totals": {"makespan": 0.01, "bytes": 0.0, "money": 0.0}}
    )
    done = run(store, plan, *rest, tmp_path / "home")
    problem, solution = from_json(store.get(keys.problem("r1", len(done.replanned))))
    lines = {line.site: line for line in plan_table.lines(problem, solution, done.plan)}
    answered = Counter(p.site for p in done.plan.placements)
    assert {name: line.shards for name, line in lines.items() if line.shards} == answered
    guests = Counter(p.site for p in done.plan.placements if p.site != p.shard.origin)
    assert {name: line.guests for name, line in lines.items() if line.guests} == guests
    assert done.plan.totals == {"makespan": solution.seconds, "bytes": solution.bytes, "money": solution.money}
    assert done.plan.totals["bytes"] > 0
    assert done.plan.gap == pytest.approx(solution.seconds / 0.01 - 1)
    assert (done.plan.lower_bound, done.plan.balance) == (0.01, solution.balance)


def test_where_nobody_can_help_the_run_fails_by_the_name_of_the_site(store, tmp_path, monkeypatch):
    made = make(store, Speeds({}), monkeypatch, sites=("edge-1", "edge-2"))
    with pytest.raises(SiteFailed, match="site edge-1 cannot be reached"):
        run(store, *made, tmp_path / "home", refuse={"edge-1", "edge-2"})


def test_shards_that_only_a_lost_site_has_cannot_move(store, tmp_path, monkeypatch):
    plan, *_ = made = make(store, Speeds({}), monkeypatch)
    for p in plan.placements:
        if p.shard.origin == "edge-1":
            store.delete(p.key)  # as where they lie on the premises
    with pytest.raises(SiteFailed, match="site edge-1 cannot be reached"):
        run(store, *made, tmp_path / "home", refuse={"edge-1"})
    there = [p for p in plan.placements if store.exists(keys.result(p.result))]
    assert {p.shard.origin for p in there} == {"edge-2"}, "the other one was not cut short"


def test_what_is_wrong_with_a_shard_is_not_moved_around(store, tmp_path, monkeypatch):
    plan, *_ = made = make(store, Speeds({}), monkeypatch)
    bad = plan.placements[0]
    store.put(bad.key, b"x" + store.get(bad.key)[1:])
    with pytest.raises(Exception, match=bad.key):
        run(store, *made, tmp_path / "home")
    taken = [Withdrawal.model_validate_json(store.get(key)).results for key in store.keys("runs/r1/withdrawn")]
    assert not any(bad.result in results for results in taken), "others of a slow machine may have been"


def test_a_shard_whose_packed_rows_are_not_there_is_left_to_others_by_the_receipt_of_a_lost_site(
    store, tmp_path, monkeypatch
):
    plan, *_ = made = make(store, Speeds({}), monkeypatch)
    done = run(store, *made, tmp_path / "home")
    mine = [p for p in plan.placements if p.site == "edge-1"]
    packed = {e.shard: e.key for r in done.receipts for e in r.escalated if r.site == "edge-1"}
    order = WorkOrder.model_validate_json(store.get(keys.order("r1", "edge-1")))
    gone = sorted(packed)[0]
    store.delete(packed[gone])
    store.delete(keys.result(next(p.result for p in mine if p.result != gone)))
    told = receipts.settle(store, plan, order, mine, 7.0, "it is gone")
    assert (told.shards, len(told.withdrawn), told.started, told.lost) == (10, 2, 7.0, "it is gone")
    assert gone in told.withdrawn
    assert all(e.sent and e.shard in packed for e in told.escalated)
    standing = receipts.standings(store, [p for p in mine if p.result == gone])
    (open_rows,) = receipts.from_ledger(store, plan, order, standing).escalated
    assert (open_rows.shard, open_rows.key, open_rows.sent) == (gone, packed[gone], False)


def test_the_receipt_of_a_later_order_is_told_from_the_ledger_too(store, tmp_path, monkeypatch):
    made = make(store, Speeds({"edge-1": 0.5}), monkeypatch, sites=("edge-1", "edge-2"))
    done = run(store, *made, tmp_path / "home")
    by_order = {r.order_id: r for r in settlement.receipts_of(store, done.plan)}
    assert by_order == {r.order_id: r for r in done.receipts}
    later = next(name for name, r in by_order.items() if name.startswith("edge-2.") and r.shards)
    store.delete(keys.receipt("r1", later))
    told = {r.order_id: r for r in settlement.receipts_of(store, done.plan)}
    assert told.keys() == by_order.keys()
    assert told[later].rows == by_order[later].rows
    assert {e.shard: e for e in told[later].escalated} == {e.shard: e for e in by_order[later].escalated}


def test_at_the_deadline_what_is_open_is_named_and_can_be_settled(plain, store, tmp_path, monkeypatch):
    """One site is gone, and who took over does not end in time: each shard is left where an order has it."""
    storage.stand_in(store)
    speeds = Speeds({}, stuck={"edge-2", "cloud"})
    plan, *_ = made = make(store, speeds, monkeypatch, planned=5.0)
    done = run(store, *made, tmp_path / "home", refuse={"edge-1"}, ends=time.time() + 1.5)
    assert done.late["edge-2"] == "no answer by the deadline"
    assert "edge-1" in done.gone
    assert done.replanned[0].moved == 12
    assert done.plan.model_dump_json(indent=1).encode() == store.get(done.replanned[-1].plan)
    assert {p.site for p in done.plan.placements} == set(done.late)
    left = settlement.open_orders(store, done.plan)
    assert {order.site: {s.result for s in order.shards} for order in left} == {
        site: {p.result for p in done.plan.placements if p.site == site} for site in done.late
    }
    assert [r.shards for r in settlement.receipts_of(store, done.plan)] == [0], "of the site that is gone"
    speeds.freed.set()
    for order in left:
        infer_shards(settlement.write_order(store, done.plan, order, "rest-1"), tmp_path / "home", store.bucket)
    require_whole(store, plan, dataclasses.replace(done, receipts=settlement.receipts_of(store, done.plan)), plain)
    assert settlement.open_orders(store, done.plan) == []


def test_after_the_deadline_nothing_is_begun(store, tmp_path, monkeypatch):
    speeds = Speeds({})
    plan, *_ = made = make(store, speeds, monkeypatch)
    done = run(store, *made, tmp_path / "home", ends=time.time())
    assert (done.plan, speeds.calls) == (plan, {})
    assert done.late == dict.fromkeys(("edge-1", "edge-2"), "no answer by the deadline")


def test_before_a_deadline_a_slow_site_loses_shards_and_all_are_answered(plain, store, tmp_path, monkeypatch):
    storage.stand_in(store)
    plan, *_ = made = make(store, Speeds({"edge-1": 0.5}), monkeypatch)
    done = run(store, *made, tmp_path / "home", ends=time.time() + 60)
    require_whole(store, plan, done, plain)
    assert done.replanned[0].moved > 0
    assert done.late == {}


def sent_within(store, plan, profiles, where, home):
    """How sure the edges were of the rows that a budget lets go, in order; and how many rows were sent."""
    sure, sent = [], 0
    for sends in order_sends(plan, where, profiles, store.bucket):
        order = WorkOrder.model_validate_json(store.get(sends))
        for number, row in order.escalation.picked:
            key = keys.result(order.shards[number].result)
            sure.append(ledger.read_result(store.get(key), key)["confidence"][row].as_py())
        sent += sum(e.rows for e in infer_shards(sends, home, store.bucket).escalated)
    return sorted(sure), sent


@pytest.mark.parametrize("what", ["slow", "stuck", "broken"])
def test_what_a_budget_lets_go_does_not_depend_on_who_answered(what, store, tmp_path, monkeypatch):
    """It is shared out when all have answered; until then a run with one is watched like any other."""
    sites, budget = ("edge-1", "edge-2"), EscalationBudget(rows=7)
    plan, _, where, profiles = made = make(store, Speeds({}), monkeypatch, sites=sites, budget=budget, run="calm")
    calm = run(store, *made, tmp_path / "calm")
    assert not any(r.escalated for r in calm.receipts)
    sure, count = sent_within(store, calm.plan, profiles, where, tmp_path / "calm")
    assert len(sure) == count == 7
    for p in plan.placements:
        store.delete(keys.result(p.result))
    speeds = {
        "slow": Speeds({"edge-1": 0.5}),
        "stuck": Speeds({}, stuck={"edge-1"}),
        "broken": Speeds({"edge-1": 0.05}, broken={"edge-1": 5}),
    }[what]
    made = make(store, speeds, monkeypatch, sites=sites, budget=budget)
    done = run(store, *made, tmp_path / "home")
    speeds.freed.set()
    assert done.replanned
    assert ("edge-1" in done.gone) == (what == "broken")
    assert all(store.exists(keys.result(p.result)) for p in done.plan.placements)
    assert sent_within(store, done.plan, profiles, where, tmp_path / "home") == (sure, 7)


def test_a_site_that_joins_gets_work(plain, store, tmp_path, monkeypatch):
    storage.stand_in(store)
    speeds = Speeds({"edge-1": 0.3, "edge-2": 0.3})
    plan, problem, where, profiles = make(store, speeds, monkeypatch, sites=("edge-1", "edge-2"))
    from infra.runtimes import RUNTIMES

    monkeypatch.setitem(RUNTIMES._loaded, "toy-new", speeds.runtime("new"))
    new = card("new", "edge")
    site = Site(name="new", tier="edge")
    profile = profiles[0].model_copy(update={"site": "new", "host": "new"})
    coming = [
        [],
        [(Joined(site=site, place=place_site(site, profile, [(new, plan.cascade)]), card=new, batch=ROWS), profile)],
    ]
    plan = plan.model_copy(update={"lower_bound": 0.01, "gap": 0.0})
    done = run(store, plan, problem, where, profiles, tmp_path / "home", join=lambda: coming.pop(0) if coming else [])
    require_whole(store, plan, done, plain)
    assert "new" in {p.site for p in done.plan.placements}
    assert done.plan.cards["new"] == new
    assert (done.plan.lower_bound, done.plan.gap) == (0.0, None), "the bound was one without it"
    counts = from_json(store.get(keys.problem("r1", len(done.replanned))))[1].counts
    assert sum(n for (_, site, _), n in counts.items() if site == "new") > 0


def test_a_site_leaves_out_what_was_withdrawn_and_says_so(store, tmp_path, monkeypatch):
    from tasks.write_orders import write_orders

    plan, _, where, _ = make(store, Speeds({"edge-1": 0.05}), monkeypatch)
    orders = write_orders(plan, where, store.bucket, watched=True)
    gone = tuple(sorted(p.result for p in plan.placements if p.site == "edge-1"))[:10]
    store.put(keys.withdrawal("r1", "edge-1"), Withdrawal(results=gone).model_dump_json().encode())
    receipt = infer_shards(orders["edge-1"], tmp_path / "home", store.bucket)
    assert set(receipt.withdrawn) <= set(gone)
    assert len(receipt.withdrawn) >= 8  # a few may be begun before it hears
    assert receipt.shards == receipt.computed_results == 12 - len(receipt.withdrawn)
    for result in gone:
        assert store.exists(keys.result(result)) == (result not in receipt.withdrawn)


def test_an_order_that_nobody_watches_asks_nothing(store, tmp_path, monkeypatch):
    from tasks.write_orders import write_orders

    plan, _, where, _ = make(store, Speeds({"edge-1": 0.02}), monkeypatch)
    orders = write_orders(plan, where, store.bucket)
    infer_shards(orders["edge-1"], tmp_path / "home", store.bucket)
    assert not [key for key in store.gets if "/withdrawn/" in key]
    assert not store.keys("runs/r1/progress")


def test_progress_says_how_far_an_order_is_and_a_link_that_is_down_does_not_stop_it(store, tmp_path, monkeypatch):
    from tasks.write_orders import write_orders

    plan, _, where, _ = make(store, Speeds({"edge-1": 0.1}), monkeypatch)
    orders = write_orders(plan, where, store.bucket, watched=True)
    said, put = [], FolderStore.put

    def patchy(self, key, data):
        if "/progress/" in key:
            said.append(OrderProgress.model_validate_json(data))
            if len(said) == 2:
                raise StoreUnreachable("the link is down")
        put(self, key, data)

    monkeypatch.setattr(FolderStore, "put", patchy)
    receipt = infer_shards(orders["edge-1"], tmp_path / "home", store.bucket)
    assert receipt.computed_results == 12
    assert len(said) > 2
    shards, seconds = [each.shards for each in said], [each.seconds for each in said]
    assert shards == sorted(shards)
    assert seconds == sorted(seconds)
    assert 0 < shards[-1] <= 12
    assert all((each.first_seconds is not None) == (each.shards > 0) for each in said)
