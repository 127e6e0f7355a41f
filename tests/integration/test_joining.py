"""A machine joins as a site with a token and nothing else; who has no token, or an old one, does not."""

from __future__ import annotations

import stat
import time

import pytest

from data_catalog.errors import BadInput, ObjectMissing, OrderRefused, SiteFailed, UnknownName
from data_catalog.nouns import Receipt, Site, WorkOrder
from data_catalog.orders import Letter, Mailbox, Presence
from infra import enrolment, keys, mailbox, membership, outbox, sites
from infra.backlog import BacklogStore
from infra.runtimes import RUNTIMES
from infra.security import letters, pairs, presigning, signing
from infra.signed_store import SignedStore
from tasks.probe_site import probe_machine

pytestmark = pytest.mark.integration

NAME = "ward-1"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("infra.transfer.FIRST_PAUSE", 0.001)


@pytest.fixture
def home(up_home):
    """The coordinator's."""
    return up_home.path


@pytest.fixture(autouse=True)
def _nobody_joined(up_store):
    yield
    for key in up_store.keys("sites"):
        if key.startswith((f"sites/{NAME}/", "sites/ward-2/")):
            up_store.delete(key)


def invite(store, home, name=NAME, seconds=3600.0):
    return enrolment.read_token(enrolment.invite(store, home, Site(name=name, tier="edge"), seconds))


def register(machine, token):
    """Keys, a measurement, and the registration, as `cloudedge site join` makes them."""
    return enrolment.join(machine, token, "1.0", lambda store, site: probe_machine(store, site, machine))


def join(store, home, machine, name=NAME):
    member = register(machine, invite(store, home, name))
    assert enrolment.admit_waiting(store, home) == [name]
    return membership.MemberStore(machine, member)


def test_a_machine_with_a_token_becomes_a_site(up_store, home, tmp_path):
    token = invite(up_store, home)
    assert [(line.name, line.state) for line in enrolment.list_sites(up_store)] == [(NAME, "invited")]
    member = register(tmp_path, token)
    assert not enrolment.is_admitted(tmp_path, member)
    assert enrolment.joined_sites(up_store, home)[NAME].dispatch == "mailbox"
    assert enrolment.is_admitted(tmp_path, member)
    assert pairs.pair_id(pairs.published(up_store, NAME)) in pairs.private_keys(tmp_path, NAME)
    for file in (membership.MEMBERSHIP, pairs.CURRENT):
        assert stat.S_IMODE((pairs.folder(tmp_path, NAME) / file).stat().st_mode) == 0o600
    site = membership.MemberStore(tmp_path, membership.read_membership(tmp_path, NAME))
    assert mailbox.read(site, NAME) == ()
    seen = Presence(site=NAME, host="there", pid=1, version="1.0", started=1.0, at=time.time())
    site.put(keys.presence(NAME), seen.model_dump_json().encode())
    (line,) = enrolment.list_sites(up_store)
    assert (line.state, line.host, line.version) == ("joined", "there", "1.0")
    assert line.seen < 60 < line.access


def test_a_machine_is_measured_when_it_joins(up_store, home, tmp_path):
    """Without an order and without credentials: before its first run it has a profile, with no variant in it."""
    join(up_store, home, tmp_path)
    (profile,) = [each for each in sites.profiles(up_store) if each.site == NAME]
    assert (profile.host, profile.cores) == (sites.host_name(), sites.core_count())
    assert min(profile.up_bytes_per_second, profile.down_bytes_per_second, profile.disk_free_bytes) > 0
    assert profile.runtime_versions == {"litert": RUNTIMES.get("litert").version()}
    assert profile.variants == {}
    assert not up_store.exists(keys.trial(NAME))
    (line,) = enrolment.list_sites(up_store)
    assert 0 <= line.profile < 60
    assert (line.up_bytes_per_second, line.down_bytes_per_second) == (
        profile.up_bytes_per_second,
        profile.down_bytes_per_second,
    )
    known = profile.model_copy(update={"refused": {"variant": "too large"}})
    up_store.put(keys.profile(NAME), known.model_dump_json().encode())
    join(up_store, home, tmp_path)
    assert sites.read_profile(up_store, NAME) == known  # the same machine again: what is known of it stays
    join(up_store, home, tmp_path / "another")
    assert sites.read_profile(up_store, NAME).refused == {}


def test_who_joins_says_nothing_of_other_sites(up_store, home, tmp_path):
    token = invite(up_store, home)
    before = sites.read_profile(up_store, "ward-2")
    enrolment.join(tmp_path, token, "1.0", lambda store, site: probe_machine(store, NAME, tmp_path).model_copy(
        update={"site": "ward-2"}
    ))  # fmt: skip
    assert enrolment.admit_waiting(up_store, home) == [NAME]
    assert sites.read_profile(up_store, "ward-2") == before
    assert sites.read_profile(up_store, NAME).site == NAME


def test_an_invitation_is_good_once_and_in_its_time(up_store, home, tmp_path):
    token = invite(up_store, home)
    register(tmp_path / "first", token)
    assert enrolment.admit_waiting(up_store, home) == [NAME]
    before = up_store.get(keys.public_key(NAME))
    register(tmp_path / "second", token)  # whoever copied the token
    assert enrolment.admit_waiting(up_store, home) == []
    assert up_store.get(keys.public_key(NAME)) == before
    late = invite(up_store, home, "ward-2", 600)
    register(tmp_path, late)
    invitation = enrolment.Invitation.model_validate_json(up_store.get(keys.invitation("ward-2")))
    up_store.put(keys.invitation("ward-2"), invitation.model_copy(update={"not_after": 1.0}).model_dump_json().encode())
    assert enrolment.admit_waiting(up_store, home) == []
    with pytest.raises(BadInput, match="copy all of it"):
        enrolment.read_token("cloudedge1-abc")
    with pytest.raises(BadInput, match="has expired"):
        enrolment.read_token(enrolment.invite(up_store, home, Site(name="ward-2", tier="edge"), -1))


def test_a_registration_without_the_secret_is_not_admitted(up_store, home, tmp_path):
    token = invite(up_store, home)
    forged = token.model_copy(update={"secret": "00" * 32})
    register(tmp_path, forged)
    assert enrolment.admit_waiting(up_store, home) == []
    of_another_version = f'{{"site": "{NAME}", "nonce": "{token.nonce}"}}'
    proof = enrolment._proof(token.secret, of_another_version)
    known = enrolment.Admission(registration=of_another_version, proof=proof).model_dump_json().encode()
    for each in (b"no registration", known):
        up_store.put(keys.registration(NAME), each)
        assert enrolment.admit_waiting(up_store, home) == []
    assert not up_store.exists(keys.public_key(NAME))
    register(tmp_path, token)  # the invitation is still good
    assert enrolment.admit_waiting(up_store, home) == [NAME]


def test_the_mailbox_is_renewed_by_each_mailbox(up_store, home, tmp_path):
    site = join(up_store, home, tmp_path)
    mailbox.read(site, NAME)
    before = membership.read_membership(tmp_path, NAME).access.until
    assert before - time.time() > 6 * 24 * 3600
    soon = presigning.sign_access(up_store.signer(), [keys.mailbox(NAME)], [], time.time(), 600, 0)
    kept = membership.read_membership(tmp_path, NAME).model_copy(update={"access": soon})
    assert f"{NAME} can read its mailbox for a week" in enrolment.renew(up_store, home)
    mailbox.read(membership.MemberStore(tmp_path, kept), NAME)
    assert membership.read_membership(tmp_path, NAME).access.until - time.time() > 6 * 24 * 3600


def letter(store, order_id="run/ward-1"):
    key, answer = keys.run("run", "orders", "probe.json"), keys.run("run", "answers", "probe.json")
    store.put(key, b'{"site": {"name": "ward-1", "tier": "edge"}, "cards": []}')
    return Letter(order_id=order_id, kind="probe", key=key, answer=answer, deadline=time.time() + 600)


def test_a_site_obeys_what_the_coordinator_signed_and_refuses_all_else(up_store, home, tmp_path):
    site = join(up_store, home, tmp_path)
    signed = letters.sign_letter(up_store, NAME, letter(up_store), home)
    mailbox.post(up_store, NAME, signed)
    assert mailbox.read(site, NAME) == (signed,)
    assert b'"cards"' in site.get(signed.key)
    site.put(f"sites/{NAME}/probe", b"x")
    site.put(signed.answer, b"{}")
    with pytest.raises(OrderRefused, match="replayed"):
        site.get(signed.key)
    good, box = up_store.get(signed.key), up_store.get(keys.mailbox(NAME))

    up_store.put(keys.mailbox(NAME), Mailbox(letters=(letter(up_store),)).model_dump_json().encode())
    with pytest.raises(OrderRefused, match="is not signed"):
        mailbox.read(site, NAME)
    assert letters.read_mailbox(up_store, NAME).letters == ()  # nor does the coordinator sign what another wrote
    other = signing.sign(signing.signing_key(tmp_path / "other"), letters.read_order(up_store, NAME, signed.key, home))
    up_store.put(signed.key, other)
    with pytest.raises(OrderRefused, match="forged"):
        site.get(signed.key)
    up_store.put(signed.key, good.replace(b"run/ward-1", b"run/ward-2"))
    with pytest.raises(OrderRefused, match="altered"):
        site.get(signed.key)
    up_store.put(signed.key, good)
    mailbox.remove(up_store, NAME, "none")
    mailbox.post(up_store, NAME, signed.model_copy(update={"order_id": "newer"}))
    mailbox.read(site, NAME)
    up_store.put(keys.mailbox(NAME), box)
    with pytest.raises(OrderRefused, match="the mailbox of site ward-1 is replayed"):
        mailbox.read(site, NAME)


def test_an_order_that_was_begun_is_on_the_disk(up_store, home, tmp_path):
    """A process that was killed goes on with it, also if nobody waits for it any more, and what it may touch with it."""
    site = join(up_store, home, tmp_path)
    signed = letters.sign_letter(up_store, NAME, letter(up_store), home)
    mailbox.post(up_store, NAME, signed)
    mailbox.read(site, NAME)
    body = site.get(signed.key)
    up_store.delete(signed.key)
    up_store.delete(keys.mailbox(NAME))
    again = membership.MemberStore(tmp_path, membership.read_membership(tmp_path, NAME))
    assert again.get(signed.key) == body
    again.put(f"sites/{NAME}/probe", b"measured")
    again.put(signed.answer, b"{}")
    assert up_store.get(f"sites/{NAME}/probe") == b"measured"
    assert list((pairs.folder(tmp_path, NAME) / membership.BEGUN).iterdir()) == []
    (pairs.folder(tmp_path, NAME) / membership.BEGUN / "forged.json").write_bytes(b"{}\n{}")
    membership.MemberStore(tmp_path, membership.read_membership(tmp_path, NAME))
    assert list((pairs.folder(tmp_path, NAME) / membership.BEGUN).iterdir()) == []


def test_a_site_that_is_killed_knows_what_lies_in_its_outbox(up_store, home, tmp_path):
    """Also if its link was down when it was done, and what it did waits on its disk."""
    site = join(up_store, home, tmp_path)
    folder = keys.outbox(NAME, "0f")
    places = [keys.slot(folder, number) for number in range(3)]
    access = presigning.sign_access(
        up_store.signer(), [], ["runs/answer", keys.parcels(folder), *places], time.time(), 600, 1000, folder, ["escalations/"]
    )  # fmt: skip
    order = signing.enclose("order", NAME, "run/ward-1", {}, access, time.time(), "answer", "runs/answer")
    key = keys.signed_order(NAME, order.nonce)
    up_store.put(key, signing.sign(signing.signing_key(home), order))
    mailbox.post(up_store, NAME, letter(up_store).model_copy(update={"key": key}))
    mailbox.read(site, NAME)
    store = BacklogStore(site, tmp_path / "backlog")
    store.get(key)
    store.put("escalations/aa/first", b"first")
    down = membership.read_membership(tmp_path, NAME)
    url = access.url
    for grant in site._grants:
        object.__setattr__(grant, "url", "http://127.0.0.1:1/nowhere")
    store.put("escalations/bb/second", b"second")
    store.put("runs/answer", b"done")
    assert store.waiting == 2
    again = BacklogStore(membership.MemberStore(tmp_path, down), tmp_path / "backlog")
    assert url in {grant.url for grant in again._beyond._grants}
    mailbox.read(again, NAME)
    assert again.waiting == 0
    assert outbox.collect(up_store, order) == 2
    assert up_store.get("escalations/aa/first") == b"first"
    assert up_store.get("escalations/bb/second") == b"second"
    assert up_store.get("runs/answer") == b"done"


def test_an_order_that_is_put_in_place_of_another_is_refused(up_store, home, tmp_path):
    site = join(up_store, home, tmp_path)
    first, second = (letters.sign_letter(up_store, NAME, letter(up_store, name), home) for name in ("first", "second"))
    mailbox.post(up_store, NAME, first)
    mailbox.post(up_store, NAME, second)
    mailbox.read(site, NAME)
    up_store.put(first.key, up_store.get(second.key))
    with pytest.raises(OrderRefused, match="is another order than its name says: second"):
        site.get(first.key)


def test_what_a_site_may_not_send_is_not_delivered(up_store, home):
    folder = keys.outbox(NAME, "00")
    writes = [keys.slot(folder, 0), keys.slot(folder, 1), keys.parcels(folder)]
    access = presigning.sign_access(up_store.signer(), [], writes, time.time(), 600, 1000, folder, ["escalations/"])
    order = signing.enclose("order", NAME, "run/ward-1", {}, access, time.time())
    up_store.put("escalations/aa/there", b"of another")
    for wrong in ("results/aa/other.parquet", "escalations/../results/aa/other.parquet"):
        site = SignedStore(access.model_copy(update={"delivers": ("",)}))  # who steals it writes a client of their own
        site.put("escalations/aa/good", b"rows")
        site.put(wrong, b"wrong")
        site.close_outbox(folder)
        with pytest.raises(SiteFailed, match="remove"):
            outbox.collect(up_store, order)
        assert not up_store.exists("escalations/aa/good")
    site = SignedStore(access)
    site.put("escalations/aa/good", b"rows")
    site.put("escalations/aa/there", b"not mine")
    site.close_outbox(folder)
    assert outbox.collect(up_store, order) == 2
    assert (up_store.get("escalations/aa/good"), up_store.get("escalations/aa/there")) == (b"rows", b"of another")
    assert up_store.keys(folder) == []
    assert outbox.collect(up_store, order) == 0


def test_a_receipt_that_names_what_is_not_its_own_is_not_believed(up_store, home, quick_run):
    """The cloud would read what it names, and write where it says, with the coordinator's credentials."""
    run_id = quick_run["run_id"]
    order = WorkOrder.model_validate_json(up_store.get(keys.run(run_id, "orders", "edge-1.json")))
    name = keys.run(run_id, "receipts", "edge-1.json")
    before = up_store.get(name)
    receipt = Receipt.model_validate_json(before)
    assert receipt.escalated
    access = presigning.sign_access(up_store.signer(), [], [], time.time(), 600, 0)
    body = order.model_dump(mode="json")
    envelope = signing.enclose("order", "edge-1", "run/edge-1", body, access, time.time(), "answer")
    assert letters.take_in(up_store, envelope) == 0
    first, *rest = receipt.escalated
    lies = [
        {"escalated": (first.model_copy(update={"key": "datasets/d/shards/of-another"}), *rest)},
        {"escalated": (first.model_copy(update={"result": "ab" * 32}), *rest)},
        {"escalated": (first.model_copy(update={"shard": "ab" * 32}), *rest)},
        {"run_id": "another"},
        {"site": "edge-2"},
    ]
    for lie in lies:
        up_store.put(name, receipt.model_copy(update=lie).model_dump_json().encode())
        with pytest.raises(SiteFailed, match="what the order does not ask for"):
            letters.take_in(up_store, envelope)
        assert not up_store.exists(name)
    up_store.put(name, before)


def test_drain_and_remove(up_store, home, tmp_path):
    join(up_store, home, tmp_path)
    enrolment.drain(up_store, NAME)
    assert enrolment.joined_sites(up_store, home)[NAME].draining
    enrolment.drain(up_store, NAME, undo=True)
    assert not enrolment.joined_sites(up_store, home)[NAME].draining
    assert 0 < enrolment.remove(up_store, home, NAME) - time.time() < 8 * 24 * 3600
    assert up_store.keys(f"sites/{NAME}") == []
    for do in (lambda: enrolment.drain(up_store, NAME), lambda: enrolment.remove(up_store, home, NAME)):
        with pytest.raises(UnknownName):
            do()
    with pytest.raises(ObjectMissing):
        membership.MemberStore(tmp_path, membership.read_membership(tmp_path, NAME)).get(keys.mailbox(NAME))
