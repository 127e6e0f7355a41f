"""The budget of escalations: what is read, and which rows go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import BadInput, UnknownName
from data_catalog.nouns import EscalationBudget
from infra import ration

pytestmark = pytest.mark.property

GAINS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.125, 0.5, 1.0]))
LIMIT = st.none() | st.integers(0, 60)
COSTS = st.builds(
    ration.Cost, st.integers(1, 50), st.integers(1, 100), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 2.0])
)
SITES = st.lists(st.tuples(GAINS, COSTS), min_size=1, max_size=4)


def budgets(sites: bool = True) -> st.SearchStrategy[EscalationBudget]:
    many = st.none() | st.integers(0, 2000)
    own = st.dictionaries(st.sampled_from(["s-0", "s-1", "s-2"]), st.deferred(lambda: budgets(sites=False)), max_size=2)
    return st.builds(
        EscalationBudget, rows=LIMIT, bytes=many, seconds=LIMIT, money=many, sites=own if sites else st.just({})
    )


def picked(budget, sites):
    gains, costs = [gain for gain, _ in sites], [cost for _, cost in sites]
    names = [f"s-{i}" for i in range(len(sites))]
    return names, gains, costs, ration.pick(budget, names, gains, costs)


def uses(rows, cost):
    """Rows, bytes, seconds and money of so many rows of a site."""
    return rows, rows * cost.bytes, rows * cost.bytes / cost.up, rows * cost.money


def keeps(budget, used):
    limits = (budget.rows, budget.bytes, budget.seconds, budget.money)
    return all(limit is None or use <= limit * (1 + 1e-9) for limit, use in zip(limits, used, strict=True))


@given(budgets(), SITES)
def test_nothing_takes_more_than_its_budget(budget, sites):
    names, _, costs, rows = picked(budget, sites)
    used = [uses(len(mine), cost) for mine, cost in zip(rows, costs, strict=True)]
    for name, use in zip(names, used, strict=True):
        assert keeps(budget.sites.get(name, EscalationBudget()), use)
        assert budget.seconds is None or use[2] <= budget.seconds * (1 + 1e-9)
    whole = np.sum(used, axis=0)
    assert keeps(budget.model_copy(update={"seconds": None}), whole)


@given(budgets(), SITES)
def test_those_go_that_gain_most_whichever_site_they_are_of(budget, sites):
    """A row that stays gains no more than any that goes, unless its own site may send no more."""
    names, gains, costs, rows = picked(budget, sites)
    least = min((gain[mine].min() for gain, mine in zip(gains, rows, strict=True) if len(mine)), default=np.inf)
    for name, gain, cost, mine in zip(names, gains, costs, rows, strict=True):
        assert list(mine) == list(np.argsort(-gain, kind="stable")[: len(mine)])
        own = budget.sites.get(name, EscalationBudget())
        both = own.model_copy(
            update={"seconds": min(filter(lambda s: s is not None, (own.seconds, budget.seconds)), default=None)}
        )
        if len(mine) < len(gain) and keeps(both, uses(len(mine) + 1, cost)):
            assert np.sort(-gain)[len(mine)] >= -least


@given(SITES, st.integers(0, 60), st.integers(0, 60))
def test_a_larger_budget_takes_nothing_back(sites, one, other):
    few, many = (picked(EscalationBudget(rows=rows), sites)[3] for rows in sorted([one, other]))
    assert all(list(more[: len(less)]) == list(less) for less, more in zip(few, many, strict=True))


@given(SITES)
def test_without_limits_all_go(sites):
    _, gains, _, rows = picked(EscalationBudget(), sites)
    assert [len(mine) for mine in rows] == [len(gain) for gain in gains]


@given(budgets(), SITES)
def test_what_the_sites_may_really_send_is_within_the_budget(budget, sites):
    names, _, costs, rows = picked(budget, sites)
    counts = [len(mine) for mine in rows]
    most = ration.most_bytes(budget, names, counts, costs)
    for name, cost, size in zip(names, costs, most, strict=True):
        own = budget.sites.get(name, EscalationBudget())
        for limit, rate in ((own.bytes, 1.0), (own.seconds, cost.up), (budget.seconds, cost.up)):
            assert limit is None or (size is not None and size <= limit * rate)
    if budget.bytes is not None:
        assert sum(size or 0 for size in most) <= budget.bytes
    if budget.money is not None:
        priced = [(size, cost, n) for size, cost, n in zip(most, costs, counts, strict=True) if cost.byte_money]
        spent = sum(size * cost.byte_money + n * cost.row_money for size, cost, n in priced if size)
        assert spent <= budget.money * (1 + 1e-9)


@pytest.mark.parametrize(
    ("amounts", "budget"),
    [
        ((), None), (("200",), EscalationBudget(rows=200)), (("12 rows",), EscalationBudget(rows=12)), (("50kB",), EscalationBudget(bytes=50_000)),
        (("1.5MiB", "10s"), EscalationBudget(bytes=1.5 * 2**20, seconds=10)), (("2min", "0"), EscalationBudget(rows=0, seconds=120)),
        (("2.5 money",), EscalationBudget(money=2.5)),
        (("9", "edge-1=50kB", "edge-1=3"), EscalationBudget(rows=9, sites={"edge-1": EscalationBudget(rows=3, bytes=50_000)})),
    ],
)  # fmt: skip
def test_amounts_are_read(amounts, budget):
    assert ration.read_budget(amounts) == budget


@pytest.mark.parametrize(
    "amounts",
    [("",), ("many",), ("-3",), ("3 apples",), ("nan",), ("1kB", "2kB"), ("1e3",), ("edge-1=",), ("a=1kB", "a=2kB"), ("Ward 1=3",)],
)  # fmt: skip
def test_what_is_no_budget_is_named(amounts):
    with pytest.raises(BadInput, match="--escalate-at-most"):
        ration.read_budget(amounts)


def test_a_budget_of_a_site_that_is_no_edge_of_the_run_is_named():
    budget = ration.read_budget(["edge-7=3"])
    with pytest.raises(UnknownName, match=r"'edge-7'.*did you mean 'edge-1'"):
        ration.require_edges(budget, ["edge-1", "ward"], "--escalate-at-most")


def test_a_time_is_read():
    assert [ration.read_seconds(text, "--deadline") for text in ("90s", "10min", "2 h")] == [90, 600, 7200]
    for text in ("10", "10kB", "edge-1=10s", "soon"):
        with pytest.raises(BadInput, match="--deadline"):
            ration.read_seconds(text, "--deadline")
