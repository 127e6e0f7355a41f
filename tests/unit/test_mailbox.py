"""Letters, answers, and what a site's process makes of them, without a server."""

from __future__ import annotations

import threading
import time

import pytest

from data_catalog import errors
from data_catalog.orders import Answered, Letter, Mailbox, Prepared, PrepareOrder
from infra import agent, keys, mailbox
from infra.premises import SiteStore
from tests.stores import FolderStore

pytestmark = pytest.mark.unit

DONE = Prepared(fingerprint="f", quarantined_rows=3)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


@pytest.fixture
def site(store, tmp_path):
    return SiteStore(store, tmp_path / "premises")


def letter(name: str = "prepare-a", deadline: float = 4e9) -> Letter:
    return Letter(
        order_id=f"run/{name}", kind="prepare", key="orders/a", answer=keys.run("run", "answers", f"{name}.json"),
        deadline=deadline,
    )  # fmt: skip


def look(site: SiteStore, prepare, settled: set[str] | None = None, failures: dict[str, int] | None = None) -> bool:
    """Read the mailbox once and do what is new; whether something was."""
    settled = set() if settled is None else settled
    new = agent.unread("post-1", site, {"prepare"}, settled)
    for each in new:
        agent.settle("post-1", site, each, {"prepare": prepare}, {} if failures is None else failures)
        settled.add(each.order_id)
    return bool(new)


def test_a_letter_is_posted_once_and_removed(store):
    first, second = letter("a"), letter("b")
    for each in (first, second, first):
        mailbox.post(store, "post-1", each)
    assert mailbox.read(store, "post-1") == (first, second)
    assert mailbox.read(store, "post-2") == ()
    mailbox.remove(store, "post-1", first.order_id)
    assert mailbox.read(store, "post-1") == (second,)


def test_letters_that_nobody_waits_for_are_taken_out_by_the_next(store):
    mailbox.post(store, "post-1", letter("old", deadline=1.0))
    mailbox.post(store, "post-1", letter("new"))
    assert [each.order_id for each in mailbox.read(store, "post-1")] == ["run/new"]


def test_a_broken_mailbox_is_named(store):
    store.put(keys.mailbox("post-1"), b"{")
    with pytest.raises(errors.CorruptObject, match=r"sites/post-1/mailbox\.json"):
        mailbox.read(store, "post-1")


def test_a_letter_is_done_once(store, site):
    done = []
    mailbox.post(store, "post-1", letter())
    for settled in (set(), set()):  # two processes in turn, two looks each
        for _ in range(2):
            look(site, lambda each: done.append(each) or DONE, settled, {})
    assert done == [letter()]
    answered = Answered.model_validate_json(store.get(letter().answer))
    assert answered.body == DONE.model_dump()
    assert answered.failure is None


def test_what_crosses_the_link_for_a_letter_is_in_its_answer(store, site):
    store.put("orders/a", b"x" * 70)
    mailbox.post(store, "post-1", letter())

    def prepare(each: Letter) -> Prepared:
        site.put("result", site.get(each.key) * 2)
        site.stay(["kept"])
        site.put("kept", b"y" * 1000)
        assert site.get("kept") == b"y" * 1000
        return DONE

    look(site, prepare)
    answered = Answered.model_validate_json(store.get(letter().answer))
    assert (answered.wan_in, answered.wan_out) == (70, 140)
    assert not store.exists("kept")


@pytest.mark.parametrize(
    ("raised", "arrives", "says"),
    [
        (errors.BadRecord("row 3 of a.csv is no number"), errors.BadRecord, "row 3 of a.csv is no number"),
        (errors.ObjectMissing("orders/a is gone"), errors.ObjectMissing, "orders/a is gone"),
        (ZeroDivisionError("by zero"), errors.SiteFailed, "site post-1: ZeroDivisionError: by zero"),
    ],
)
def test_a_failure_is_raised_at_the_coordinator_by_its_class(store, site, monkeypatch, raised, arrives, says):
    monkeypatch.setattr("sys.excepthook", lambda *about: None)

    def prepare(each: Letter) -> Prepared:
        raise raised

    def serve() -> None:
        while not look(site, prepare):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(arrives) as caught:
        mailbox.ask(store, "post-1", "prepare", DONE, "run", "prepare-a", 60.0)
    thread.join()
    assert str(caught.value) == says
    assert mailbox.read(store, "post-1") == ()


def test_a_link_that_is_down_leaves_the_letter_to_be_done_again(store, site):
    tries = []

    def prepare(each: Letter) -> Prepared:
        tries.append(each)
        if len(tries) < 6:
            raise errors.StoreUnreachable("no answer")
        return DONE

    mailbox.post(store, "post-1", letter())
    settled, failures = set(), {}
    for _ in range(5):
        with pytest.raises(errors.StoreUnreachable):
            look(site, prepare, settled, failures)
    assert not store.exists(letter().answer)
    assert look(site, prepare, settled, failures)
    assert Answered.model_validate_json(store.get(letter().answer)).body == DONE.model_dump()


def test_a_store_that_keeps_failing_is_a_failure_at_last(store, site):
    def prepare(each: Letter) -> Prepared:
        raise errors.StoreError("the store failed at x")

    mailbox.post(store, "post-1", letter())
    settled, failures = set(), {}
    for _ in range(agent.TRIES - 1):
        with pytest.raises(errors.StoreError):
            look(site, prepare, settled, failures)
    look(site, prepare, settled, failures)
    answered = Answered.model_validate_json(store.get(letter().answer))
    assert answered.failure
    assert answered.failure.error == "StoreError"


def test_shards_are_sent_beside_other_work_and_a_failing_letter_is_tried_again(store, site, monkeypatch):
    monkeypatch.setattr(agent, "SLOWEST", 0.05)
    sending, answered, tries = threading.Event(), threading.Event(), []

    def compress(each: Letter) -> None:
        sending.set()
        assert answered.wait(30)  # while this one is at work

    def answer(each: Letter) -> None:
        assert sending.wait(30)
        tries.append(each.order_id)
        if len(tries) < 3:
            raise errors.StoreUnreachable("no answer")
        answered.set()

    def refuse(key: str) -> bool:
        raise errors.StoreRefused("the store refuses these credentials; set AWS_ACCESS_KEY_ID")

    def ended() -> None:
        with pytest.raises(errors.StoreRefused) as caught:
            agent.work("post-1", site, {"compress": compress, "answer": answer})
        stopped.append(caught.value)

    stopped: list[BaseException] = []
    thread = threading.Thread(target=ended)
    both = [letter("c").model_copy(update={"kind": "compress"}), letter("a").model_copy(update={"kind": "answer"})]
    for each in both:
        mailbox.post(store, "post-1", each)
    thread.start()
    for each in both:
        mailbox.wait(store, "post-1", each.model_copy(update={"deadline": time.time() + 60}))
    assert tries == ["run/a"] * 3
    monkeypatch.setattr(site, "exists", refuse)
    mailbox.post(store, "post-1", letter("last").model_copy(update={"kind": "answer"}))
    thread.join(60)
    assert stopped


def test_a_mailbox_that_is_none_does_not_end_the_process(store, site, monkeypatch):
    monkeypatch.setattr(agent, "SLOWEST", 0.05)
    store.put(keys.mailbox("post-1"), b"no mailbox at all")
    said: list[str] = []
    threading.Thread(
        target=agent.work, args=("post-1", site, {"prepare": lambda each: DONE}, said.append), daemon=True
    ).start()
    deadline = time.monotonic() + 30
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "is no mailbox" in said[0]
    mailbox.ask(store, "post-1", "prepare", DONE, "run", "prepare-a", 30.0)


def test_nobody_there_is_said_with_what_to_do(store):
    with pytest.raises(errors.SiteFailed, match=r"no process of it was ever there.*`cloudedge site work post-1`"):
        mailbox.ask(store, "post-1", "prepare", DONE, "run", "prepare-a", 0.1)
    assert mailbox.read(store, "post-1") == ()


def test_a_letter_that_another_coordinator_lost_is_posted_again(store, site, monkeypatch):
    monkeypatch.setattr(mailbox, "LOOK_AFTER_LETTER", 0.01)
    lost = []

    def posting(*about) -> None:
        mailbox.post(*about)
        if not lost:
            lost.append(about)
            store.put(keys.mailbox("post-1"), Mailbox().model_dump_json().encode())
        else:
            look(site, lambda each: DONE)

    answered = mailbox.ask(store, "post-1", "prepare", DONE, "run", "prepare-a", 60.0, posting)
    assert answered.body == DONE.model_dump()


def test_the_site_store_is_the_store_but_for_what_stays(store, site, tmp_path):
    site.stay(["a/kept"])
    store.put("a/kept", b"another")
    store.put("a/there", b"there")
    assert not site.exists("a/kept")
    assert site.present(["a/kept", "a/there"]) == {"a/there"}
    site.put("a/kept", b"kept")
    assert store.get("a/kept") == b"another"
    fresh = SiteStore(store, tmp_path / "premises")  # the process was started again
    assert fresh.get("a/kept") == b"kept"
    assert fresh.get_start("a/kept", 2) == b"ke"
    assert fresh.keys("a") == ["a/kept", "a/there"]
    fresh.get_file("a/kept", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"kept"
    assert (fresh.received, fresh.sent) == (0, 0)
    (tmp_path / "premises" / "a" / "kept").write_bytes(b"x" * 40)
    with pytest.raises(errors.CorruptObject, match=r"a/kept.*run again"):
        fresh.get("a/kept")


def test_orders_survive_their_short_form():
    from data_catalog.catalog import Catalog

    order = PrepareOrder(dataset=Catalog().dataset("mnist-5k"), source="edge-1", threads=1)
    assert PrepareOrder.model_validate_json(order.model_dump_json(exclude_defaults=True)) == order
