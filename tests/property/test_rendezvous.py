"""Rendezvous hashing: quotas to the shard, the same answer in any order, and few moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import rendezvous

pytestmark = pytest.mark.property

NAMES = st.text("abcdef0123456789", min_size=1, max_size=12)


@st.composite
def shards_and_quotas(draw):
    shards = draw(st.lists(NAMES, max_size=60, unique=True))
    sites = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, len(shards)), min_size=len(sites) - 1, max_size=len(sites) - 1)))
    edges = [0, *cuts, len(shards)]
    return shards, {site: after - before for site, before, after in zip(sites, edges, edges[1:], strict=False)}


@given(shards_and_quotas())
def test_quotas_are_honoured_exactly(case):
    shards, quotas = case
    placed = rendezvous.assign(shards, quotas)
    assert sorted(placed) == sorted(shards)
    assert {site: list(placed.values()).count(site) for site in quotas} == quotas


@given(shards_and_quotas(), st.randoms())
def test_the_order_of_shards_and_sites_does_not_matter(case, random):
    shards, quotas = case
    placed = rendezvous.assign(shards, quotas)
    sites = list(quotas)
    random.shuffle(shards)
    random.shuffle(sites)
    assert rendezvous.assign(shards, {site: quotas[site] for site in sites}) == placed


@given(shards_and_quotas(), st.integers(1, 9))
def test_quotas_that_do_not_add_up_are_refused(case, more):
    shards, quotas = case
    site = next(iter(quotas))
    with pytest.raises(ValueError, match=f"quotas for {len(shards) + more} shards where there are {len(shards)}"):
        rendezvous.assign(shards, quotas | {site: quotas[site] + more})


def moves(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before[shard] != after[shard] for shard in before)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_a_site_that_joins_moves_little_more_than_its_own_share(seed, sites):
    """At least its quota must move; quotas may push a few others on, but it is no reshuffle."""
    rows = 120 * (sites + 1)
    shards = [f"{seed}-{i}" for i in range(rows)]
    before = rendezvous.assign(shards, {f"s{i}": rows // sites for i in range(sites)})
    share = rows // (sites + 1)
    after = rendezvous.assign(shards, {f"s{i}": share for i in range(sites)} | {"new": share})
    assert share <= moves(before, after) <= 1.5 * share


@given(st.integers(0, 10_000))
def test_a_small_change_of_shares_moves_little(seed):
    shards = [f"{seed}-{i}" for i in range(200)]
    before = rendezvous.assign(shards, {"a": 100, "b": 60, "c": 40})
    after = rendezvous.assign(shards, {"a": 95, "b": 65, "c": 40})
    assert 5 <= moves(before, after) <= 25


def test_a_site_that_joins_many_moves_little_more_than_its_share(monkeypatch):
    """Also where not every pair of shard and site is scored."""
    monkeypatch.setattr(rendezvous, "SCORED", 1000)
    shards = rendezvous.words([f"shard-{i}" for i in range(20_200)])
    sites = rendezvous.words([f"site-{i:03d}" for i in range(101)])
    before = rendezvous.assign_words(shards, sites[:100], np.full(100, 202), 0.05)
    after = rendezvous.assign_words(shards, sites, np.full(101, 200), 0.05)
    assert np.bincount(before).max() <= 213
    assert np.bincount(after).max() <= 210
    assert 150 <= (before != after).sum() <= 300
    exact = rendezvous.assign_words(shards, sites, np.full(101, 200))
    assert np.array_equal(np.bincount(exact), np.full(101, 200))
