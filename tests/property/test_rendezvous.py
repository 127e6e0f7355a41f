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


def even(shards: int, sites: int) -> np.ndarray:
    return np.full(sites, shards // sites) + (np.arange(sites) < shards % sites)


def forced(before: np.ndarray, after: np.ndarray) -> int:
    """Shards that must move when quotas change: what sites have more than before."""
    sites = max(len(before), len(after))
    old, new = (np.pad(quotas, (0, sites - len(quotas))) for quotas in (before, after))
    return int(np.maximum(new - old, 0).sum())


@pytest.mark.parametrize(
    ("sites", "each", "slack"),
    [(10, 100, 0.0), (10, 1000, 0.0), (100, 1000, 0.0), (100, 200, 0.05), (1000, 1000, 0.05)],
)
def test_a_site_that_joins_or_leaves_moves_at_most_one_and_a_half_times_its_fair_share(sites, each, slack):
    """All pairs scored, and only candidates; exact quotas where there are few sites, bounded load where many."""
    shards = each * (sites + 1)
    words = rendezvous.words([f"shard-{i}" for i in range(shards)])
    names = rendezvous.words([f"site-{i}" for i in range(sites + 1)])
    fewer, more = even(shards, sites), even(shards, sites + 1)
    without = rendezvous.assign_words(words, names[:sites], fewer, slack)
    together = rendezvous.assign_words(words, names, more, slack)
    assert (np.bincount(without) <= np.floor(fewer * (1 + slack) + 1e-9)).all()
    assert (np.bincount(together) <= np.floor(more * (1 + slack) + 1e-9)).all()
    assert (without != together).sum() <= 1.5 * forced(fewer, more)


@pytest.mark.parametrize("sites", [50, 1000])
def test_where_the_shards_were_is_known_exact_quotas_move_a_fair_share_and_no_more(sites):
    """As runs do it: among 1,000 sites too, whose quotas are exact, where without it a site that joins moves twice its share."""
    shards = [f"shard-{i}" for i in range(100 * (sites + 1))]
    words = rendezvous.words(shards)
    names = rendezvous.words([f"site-{i}" for i in range(sites + 1)])
    fewer, more = even(len(shards), sites), even(len(shards), sites + 1)
    before = rendezvous.assign_words(words, names[:sites], fewer)
    joined = rendezvous.assign_words(words, names, more, had=before)
    assert np.array_equal(np.bincount(joined), more)
    assert (before != joined).sum() == forced(fewer, more) <= 1.5 * more[-1]
    left = rendezvous.assign_words(words, names[:sites], fewer, had=np.where(joined < sites, joined, -1))
    assert np.array_equal(np.bincount(left), fewer)
    assert (left != joined).sum() == forced(more, fewer) <= 1.5 * more[-1]
    other = rendezvous.words([f"renamed-{i}" for i in range(sites + 1)])
    renamed = rendezvous.assign_words(words, other, more, had=before)
    assert np.array_equal(np.bincount(renamed), more)
    assert (renamed != before).sum() == (joined != before).sum(), "names say which shards move, not how many"


def test_candidates_of_unlike_sites_fill_exact_quotas(monkeypatch):
    monkeypatch.setattr(rendezvous, "SCORED", 1000)
    quotas = np.random.default_rng(0).integers(1, 400, 101)
    shards = rendezvous.words([f"shard-{i}" for i in range(quotas.sum())])
    exact = rendezvous.assign_words(shards, rendezvous.words([f"site-{i}" for i in range(101)]), quotas)
    assert np.array_equal(np.bincount(exact), quotas)


@given(shards_and_quotas(), st.randoms())
def test_where_the_shards_were_is_known_no_more_move_than_must(case, random):
    shards, quotas = case
    sites = [*quotas, "gone"]
    before = {shard: random.choice(sites) for shard in shards if random.random() < 0.8}
    mixed = random.sample(shards, len(shards))
    assert rendezvous.assign(mixed, quotas, before=before) == rendezvous.assign(shards, quotas, before=before)
    placed = rendezvous.assign(shards, quotas, before=before)
    had = {site: list(before.values()).count(site) for site in quotas}
    assert {site: list(placed.values()).count(site) for site in quotas} == quotas
    assert sum(placed[shard] == site for shard, site in before.items()) == sum(
        min(quota, had[site]) for site, quota in quotas.items()
    )
    assert rendezvous.assign(shards, quotas, before=placed) == placed
