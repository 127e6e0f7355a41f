"""Where shards were: kept by runs, used by the next plan, which moves no more of them than its counts force."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import CorruptObject
from infra import keys, whereabouts
from infra.explain import like, with_site, without
from infra.placement.programme import place
from infra.problem import assign_shards
from infra.simulator.worlds import random_problem
from tests.stores import FolderStore
from tests.watched import Speeds, make

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def test_the_next_plan_is_told_where_the_last_run_had_its_shards(store, monkeypatch):
    assert whereabouts.recall(store, "toy") == {}
    plan, *_ = make(store, Speeds({}), monkeypatch, at={0: "cloud", 3: "edge-1"})
    whereabouts.remember(store, plan)
    assert whereabouts.recall(store, "toy") == {p.shard.digest: p.site for p in plan.placements}
    assert whereabouts.recall(store, "other") == {}


def test_of_a_shard_whose_result_is_known_it_is_kept_in_mind_where_it_was(store, monkeypatch):
    """The plan of a run that found its result says who reads that, not who had the shard."""
    plan, *_ = make(store, Speeds({}), monkeypatch, at={0: "cloud"})
    whereabouts.remember(store, plan)
    first, second, *others = plan.placements
    known = first.model_copy(update={"site": "edge-1", "reused": True})
    again = plan.model_copy(update={"placements": (known, second.model_copy(update={"site": "cloud"}), *others[:-1])})
    whereabouts.remember(store, again)
    kept = whereabouts.recall(store, "toy")
    assert (kept[first.shard.digest], kept[second.shard.digest]) == ("cloud", "cloud")
    assert others[-1].shard.digest not in kept, "it is in the batch no more"
    store.delete(keys.whereabouts("toy"))
    whereabouts.remember(store, again)
    assert first.shard.digest not in whereabouts.recall(store, "toy")


def test_what_is_damaged_is_named(store):
    store.put(keys.whereabouts("toy"), b"{}")
    with pytest.raises(CorruptObject, match=r"datasets/toy/whereabouts\.json is not where shards were placed"):
        whereabouts.recall(store, "toy")


def counted(placed, origins):
    return Counter((origins[digest], site) for digest, site in placed.items())


@given(st.integers(0, 50), st.sampled_from(["joins", "leaves"]))
def test_a_plan_after_another_moves_what_its_counts_force_and_no_shard_that_may_not_leave(seed, what):
    problem = random_problem(8, 400, seed, resident=0.3)
    shards = [(f"{origin.site}-{k}", origin.site) for origin in problem.origins for k in range(origin.shards)]
    origins = dict(shards)
    first = place(problem)
    before = assign_shards(shards, first)
    assert assign_shards(shards, first, before) == before, "planned twice, it is the same"
    fixed = {o.site for o in problem.origins if o.resident}
    gone = next(s.name for s in problem.sites if not s.cloud and s.name not in fixed) if what == "leaves" else ""
    second = place(without(problem, gone) if gone else with_site(problem, like(problem, "edge-3", "one-more")))
    after = assign_shards(shards, second, before)
    assert counted(after, origins) == Counter({(o, i): n for (o, i, _), n in second.counts.items()})
    had, has = counted(before, origins), counted(after, origins)
    assert sum(before[d] != site for d, site in after.items()) == sum(max(0, n - had[k]) for k, n in has.items())
    assert all(site == origins[d] for d, site in after.items() if origins[d] in fixed)
