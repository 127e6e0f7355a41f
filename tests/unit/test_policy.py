"""The access policy: what is asked, what a refusal says, and policies that cannot be read."""

from __future__ import annotations

import json
import os
import pwd
import time

import pytest

from data_catalog.access import JoinedSite
from data_catalog.errors import AccessDenied, SettingError
from data_catalog.nouns import Dataset, Site, WorkOrder
from data_catalog.orders import CompressOrder, Letter, PrepareOrder
from infra import keys, orders
from infra.security import letters, policy
from infra.settings import read_settings
from tests.stores import FolderStore
from tests.watched import card

pytestmark = pytest.mark.unit

SITES = [
    Site(name="edge-1", tier="edge", region="eu"),
    Site(name="edge-2", tier="edge", region="us"),
    Site(name="cloud", tier="cloud", region="eu"),
]
ME = pwd.getpwuid(os.getuid()).pw_name


def dataset(**more: object) -> Dataset:
    return Dataset.model_validate(
        {
            "name": "pictures", "description": "", "license": "", "sources": [{"site": "edge-1", "uri": "x.npy"}],
            "record": {"shape": [4], "dtype": "uint8"}, "sensitivity": "restricted", "purpose": "care",
        } | more
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDEDGE_HOME", str(tmp_path / "home"))
    for name in ("CLOUDEDGE_USER", "CLOUDEDGE_POLICY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Write a policy and use it as ann."""

    def write(text: str):
        (tmp_path / "rules.csv").write_text(text)
        monkeypatch.setenv("CLOUDEDGE_POLICY", str(tmp_path / "rules.csv"))
        monkeypatch.setenv("CLOUDEDGE_USER", "ann")

    return write


def test_the_owner_of_the_home_is_an_operator_of_the_shipped_policy():
    (decision,) = policy.authorise("run", dataset())
    assert (decision.who, decision.does, decision.dataset, decision.purpose) == (ME, "run", "pictures", "care")
    assert decision.rule.startswith("policy.csv line 3: p, role:operator, *, *, restricted")


def test_who_acts_for_another_is_nobodys_owner(monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_USER", "ann")
    with pytest.raises(
        AccessDenied, match=r"^ann may not run pictures \(restricted\) at \d\dh UTC: no rule of policy.csv"
    ):
        policy.authorise("run", dataset())


def test_a_home_of_another_makes_nobody_its_owner(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    read_settings().home.mkdir(parents=True)
    assert policy.user(read_settings()) == ("uid-4000000000", [])


def test_public_data_are_open_where_no_rule_fits(monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_USER", "ann")
    (decision,) = policy.authorise("run", dataset(sensitivity="public"))
    assert decision.rule == "no rule fits, and public data are open"


def test_each_region_of_the_sites_is_asked_for(written):
    written("p, ann, run, *, restricted, eu, *, *, allow\n")
    with pytest.raises(AccessDenied, match=r"\(restricted, region us\) .* no rule of rules.csv allows it"):
        policy.authorise("run", dataset(), SITES)
    (decision,) = policy.authorise("run", dataset(), [SITES[0], SITES[2]])
    assert (decision.region, decision.sites) == ("eu", ("edge-1", "cloud"))
    with pytest.raises(AccessDenied):
        policy.authorise("run", dataset(), [Site(name="nowhere", tier="edge")])


@pytest.mark.parametrize(
    "change",
    ["does", "dataset", "sensitivity", "region", "purpose", "hours", "who"],
)
def test_every_attribute_counts(written, monkeypatch, change):
    hour = policy.time.gmtime().tm_hour
    now = {
        "who": "ann", "does": "run|train", "dataset": "pic*", "sensitivity": "restricted", "region": "eu", "purpose": "care",
        "hours": f"{hour}-{(hour + 2) % 24}",
    }  # fmt: skip
    other = {"who": "bob", "does": "train", "dataset": "sounds", "sensitivity": "public", "region": "us", "purpose": "study",
             "hours": f"{(hour + 2) % 24}-{hour}"}  # fmt: skip
    written(f"p, {', '.join(now.values())}, allow\n")
    assert policy.authorise("run", dataset(), SITES[:1])
    written(f"p, {', '.join((now | {change: other[change]}).values())}, allow\n")
    with pytest.raises(AccessDenied):
        policy.authorise("run", dataset(), SITES[:1])


def test_roles_inherit_from_roles_and_a_rule_that_denies_is_named(written):
    written("g, ann, role:a\ng, role:a, role:b\np, role:b, *, *, *, *, *, *, allow\n")
    assert policy.authorise("train", dataset())[0].rule.startswith("rules.csv line 3: p, role:b")
    written("g, ann, role:a\np, ann, *, *, *, *, *, *, allow\np, role:a, train, *, *, *, *, *, deny\n")
    assert policy.authorise("run", dataset())
    with pytest.raises(AccessDenied, match=r"rules.csv line 3: p, role:a, train, .*, deny denies it"):
        policy.authorise("train", dataset(sensitivity="public"))


def test_an_order_is_judged_when_it_is_written(written, tmp_path):
    written("p, ann, run, *, *, *, *, *, allow\n")
    access = policy.authorise("run", dataset(), SITES[:1])
    order = WorkOrder.model_construct(run_id="r", order_id="edge-1", site="edge-1", shards=())
    store = FolderStore(tmp_path)
    key = orders.put_order(store, order, access)
    assert key == keys.run("r", "orders", "edge-1.json")
    assert json.loads(store.get(key))["access"] == access[0].model_dump(mode="json")
    with pytest.raises(AccessDenied, match="the plan has no decision that lets it take part"):
        orders.put_order(store, order.model_copy(update={"site": "edge-2", "order_id": "edge-2"}), access)
    written("p, ann, run, *, *, *, *, *, allow\np, *, run, *, *, eu, *, *, deny\n")
    with pytest.raises(AccessDenied, match="line 2"):
        orders.put_order(store, order.model_copy(update={"order_id": "again"}), access)
    assert store.keys("runs") == [keys.run("r", "orders", "edge-1.json")]


@pytest.mark.parametrize("kind", ["prepare", "compress", "answer"])
def test_an_order_is_judged_when_it_is_signed(written, monkeypatch, tmp_path, kind):
    """Its hour may have passed since the run was planned; then no signature is made."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-nobody")
    hour, late = policy.time.gmtime().tm_hour, time.time() + 600
    store = FolderStore(tmp_path / "store")
    letter = Letter(order_id="r/1", kind=kind, key="order", answer="answer", deadline=late)
    about = {"dataset": dataset(), "source": "edge-1", "threads": 1}
    entry = JoinedSite(site=SITES[0], since=0, version="1", host="", cores=1, memory_bytes=1, pair="", renewed=0)
    store.put(keys.joined("edge-1"), entry.model_dump_json().encode())
    written(f"p, ann, run, *, *, eu, *, {hour}-{(hour + 2) % 24}, allow\n")
    (access,) = policy.authorise("run", dataset(), SITES[:1])
    work = WorkOrder(
        run_id="r", order_id="edge-1", site="edge-1", tier="edge", card=card("edge-1", "edge"), batch=1, threads=1, shards=(),
        access=access,
    )  # fmt: skip
    order = {
        "prepare": PrepareOrder.model_validate(about),
        "compress": CompressOrder.model_validate(about | {"placements": (), "on_premises": True}),
        "answer": work,
    }[kind]
    store.put("order", order.model_dump_json().encode())
    signed = letters.sign_letter(store, "edge-1", letter, tmp_path)
    assert store.keys(keys.signed_orders("edge-1")) == [signed.key]
    written(f"p, ann, run, *, *, eu, *, {(hour + 2) % 24}-{hour}, allow\n")
    with pytest.raises(
        AccessDenied, match=r"^ann may not run pictures \(restricted, region eu\) at \d\dh UTC: no rule"
    ):
        letters.sign_letter(store, "edge-1", letter, tmp_path)
    if kind == "answer":
        store.put("order", work.model_copy(update={"access": None}).model_dump_json().encode())
        with pytest.raises(AccessDenied, match="no order for edge-1"):  # it was never judged
            letters.sign_letter(store, "edge-1", letter, tmp_path)
    assert store.keys(keys.signed_orders("edge-1")) == [signed.key]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p, ann, run, *, *, *, *, allow", r"line 2: a rule has 8 columns after `p` \(who, .*\), this one 7"),
        ("p, ann, run, *, *, *, *, *, maybe", "line 2: effect 'maybe' is neither"),
        ("p, ann, ruin, *, *, *, *, *, allow", "line 2: `does` 'ruin' is none of run, train"),
        ("p, ann, run, *, secret, *, *, *, allow", "line 2: `sensitivity` 'secret' is none of"),
        ("p, ann, run, *, *, *, *, 8, allow", "line 2: hours '8' are not of the form"),
        ("p, ann, run, *, *, *, *, 8-25, allow", "line 2: hours '8-25'"),
        ("p, ann, run, , *, *, *, *, allow", "line 2: `dataset` is empty"),
        ("g, ann, operator", "line 2: a role is given as"),
        ("allow ann everything", "line 2 begins with 'allow ann everything'"),
    ],
)
def test_a_line_that_is_no_rule_is_one_error_with_its_number(written, text, says):
    written(f"# rules\n{text}\n")
    with pytest.raises(SettingError, match=says) as error:
        policy.authorise("run", dataset(sensitivity="public"))
    assert "\n" not in str(error.value)


def test_a_policy_that_is_not_there_stops_everything(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDEDGE_POLICY", str(tmp_path / "none.csv"))
    with pytest.raises(SettingError, match=r"none\.csv cannot be read"):
        policy.authorise("run", dataset(sensitivity="public"))


def test_a_name_cannot_be_a_role(monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_USER", "role:operator")
    with pytest.raises(SettingError, match="CLOUDEDGE_USER='role:operator' is no name of a user"):
        policy.authorise("run", dataset())
