"""A link that goes down and comes back, a process that is killed: what was put arrives, in order, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import ObjectMissing, StoreFull, StoreRefused, StoreUnreachable
from infra.backlog import BacklogStore
from tests.homes import small_disk
from tests.stores import FolderStore

pytestmark = pytest.mark.property

NAMES = st.sampled_from(["results/a", "results/b", "escalations/c", "runs/answer"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.binary(max_size=50)),
        st.tuples(st.sampled_from(["down", "up", "restart", "look"]), st.none(), st.none()),
    ),
    max_size=30,
)


class Far(FolderStore):
    """A store behind a link that can be cut; remembers in which order it was written to."""

    def __init__(self, folder, refuses=()):
        super().__init__(folder)
        self.up, self.written, self.refuses = True, [], refuses

    def _need(self):
        if not self.up:
            raise StoreUnreachable("the link is down")

    def get(self, key):
        self._need()
        return super().get(key)

    def put(self, key, data):
        self._need()
        if key in self.refuses:
            raise StoreRefused(f"{key}: expired")
        super().put(key, data)
        self.written.append((key, data))

    def exists(self, key):
        self._need()
        return (self.folder / key).is_file()


@given(STEPS)
def test_all_arrives_in_order(steps):
    with tempfile.TemporaryDirectory() as name:
        far = Far(Path(name) / "far")
        far.put("mailbox", b"")
        far.written.clear()
        store, put = BacklogStore(far, Path(name) / "waits"), []
        for step, key, data in steps:
            if step == "put":
                store.put(key, data)
                put.append((key, data))
                assert store.get(key) == data  # what waits is there for the site
                assert store.exists(key)
            elif step in {"down", "up"}:
                far.up = step == "up"
            elif step == "restart":
                store = BacklogStore(far, Path(name) / "waits")
            elif far.up:
                store.get("mailbox")
                assert not store.waiting
        far.up = True
        store.get("mailbox")
        assert store.waiting == 0
        last = dict(put)
        assert {key: far.get(key) for key in last} == last
        # of one key the older object may have been left out; what is sent is sent in the order in which it was put
        rest = iter(put)
        assert all(sent in rest for sent in far.written)


def waits(tmp_path, most=1000, **more):
    far = Far(tmp_path / "far", **more)
    far.up = False
    return far, BacklogStore(far, tmp_path / "waits", most)


def test_it_has_a_bound(tmp_path):
    far, store = waits(tmp_path)
    store.put("a", b"1" * 800)
    with pytest.raises(StoreFull, match="restore the link"):
        store.put("b", b"1" * 800)
    far.up = True
    assert store.deliver() == 1
    assert far.get("a") == b"1" * 800
    store.put("b", b"1" * 800)
    assert far.get("b") == b"1" * 800


def test_a_full_disk_stops_the_site_and_loses_nothing(tmp_path):
    with small_disk(tmp_path / "disk", "64k"):
        far = Far(tmp_path / "far")
        far.up = False
        store = BacklogStore(far, tmp_path / "disk" / "waits")
        store.put("a", b"1" * 20_000)
        with pytest.raises(StoreFull, match="free some space"):
            store.put("b", b"1" * 60_000)
        assert BacklogStore(far, tmp_path / "disk" / "waits").waiting == 1
        far.up = True
        assert store.deliver() == 1
        assert far.get("a") == b"1" * 20_000


def test_what_the_store_refuses_for_good_does_not_keep_the_others(tmp_path):
    far, store = waits(tmp_path, refuses=("late",))
    store.put("late", b"1")
    store.put("a", b"2")
    far.up = True
    assert store.deliver() == 1
    assert (store.waiting, far.get("a")) == (0, b"2")
    with pytest.raises(ObjectMissing):
        far.get("late")


def test_what_a_crash_damaged_is_not_sent(tmp_path):
    far, store = waits(tmp_path)
    store.put("a", b"whole")
    store.put("b", b"damaged")
    path = sorted((tmp_path / "waits").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-1])
    again = BacklogStore(far, tmp_path / "waits")
    assert again.waiting == 1
    far.up = True
    assert again.deliver() == 1
    assert [key for key, _ in far.written] == ["a"]
