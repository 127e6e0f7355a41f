"""The access policy against a judge of twenty lines: deny wins, order does not matter, restricted data are closed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.security import policy
from infra.security.policy import Policy, fits, judge, within

pytestmark = pytest.mark.property

USERS, ROLES = ["ann", "bob"], ["role:a", "role:b", "role:c"]
NAMES = ["eu", "us", "ch"]
columns = st.sampled_from(["*", "eu", "us", "eu|ch", "*u"])
hours = st.one_of(st.just("*"), st.tuples(st.integers(0, 24), st.integers(0, 24)).map(lambda h: f"{h[0]}-{h[1]}"))
rules = st.lists(
    st.tuples(
        st.sampled_from(["*", *USERS, *ROLES]), st.sampled_from(["*", "run", "train", "run|federate"]), columns,
        st.sampled_from(["*", "public", "restricted"]), columns, columns, hours, st.sampled_from(["allow", "deny"]),
    ),
    max_size=6, unique=True,
)  # fmt: skip
roles = st.lists(st.tuples(st.sampled_from([*USERS, *ROLES]), st.sampled_from(ROLES)), max_size=4, unique=True)
requests = st.tuples(
    st.sampled_from(USERS), st.sampled_from(["run", "train"]), st.sampled_from(NAMES),
    st.sampled_from(["public", "restricted"]), st.sampled_from(["", *NAMES]), st.sampled_from(["", *NAMES]),
    st.integers(0, 23),
)  # fmt: skip


def of(rules, roles) -> Policy:
    return Policy("p.csv", {rule: n for n, rule in enumerate(rules, 1)}, tuple(roles))


def effects(rules, roles, request) -> set[str]:
    """What the rules that fit say, without casbin."""
    mine = {request[0]}
    while more := {role for who, role in roles if who in mine} - mine:
        mine |= more
    return {
        rule[-1]
        for rule in rules
        if (rule[0] == "*" or rule[0] in mine)
        and all(fits(value, column) for value, column in zip(request[1:6], rule[1:6], strict=True))
        and within(request[6], rule[6])
    }


@given(rules, roles, requests)
def test_a_rule_that_denies_beats_all_that_allow(rules, roles, request):
    said = effects(rules, roles, request)
    allowed, why = judge(of(rules, roles), (), request)
    assert allowed is (None if not said else "deny" not in said)
    if said:
        assert why.endswith("allow" if allowed else "deny")
        line = int(why.split(":")[0].removeprefix("line "))
        assert effects([rules[line - 1]], roles, request) == {rules[line - 1][-1]}


@given(rules, roles, requests, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(rules, roles, request, random):
    shuffled = random.sample(rules, len(rules))
    assert judge(of(rules, roles), (), request)[0] is judge(of(shuffled, roles), (), request)[0]


@given(rules, roles, requests)
def test_without_a_rule_that_allows_restricted_data_are_closed(rules, roles, request):
    denying = [rule for rule in rules if rule[-1] == "deny"]
    assert judge(of(denying, roles), (), request)[0] is not True


@given(requests)
def test_the_shipped_policy_opens_restricted_data_to_operators_alone(request):
    shipped = policy.read_policy(policy.SHIPPED)
    restricted = (*request[:3], "restricted", *request[4:])
    assert judge(shipped, (), restricted)[0] is None
    assert judge(shipped, [policy.OWNER], restricted)[0] is True


@given(st.integers(0, 24), st.integers(0, 24))
def test_hours_that_are_in_a_span_are_not_in_the_rest_of_the_day(first, end):
    inside = {hour for hour in range(24) if within(hour, f"{first}-{end}")}
    outside = {hour for hour in range(24) if within(hour, f"{end}-{first}")}
    assert inside | outside == set(range(24))
    assert not inside & outside or first % 24 == end % 24


@given(rules, roles)
def test_a_policy_reads_back_as_it_was_written(tmp_path_factory, rules, roles):
    path: Path = tmp_path_factory.mktemp("policy") / "p.csv"
    path.write_text("".join(f"{', '.join(line)}\n" for line in [("p", *r) for r in rules] + [("g", *r) for r in roles]))
    assert policy.read_policy(path) == Policy("p.csv", {rule: n for n, rule in enumerate(rules, 1)}, tuple(roles))
