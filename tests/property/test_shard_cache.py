"""The site's shard cache: its bound, who leaves first, many processes at once, and a writer that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from data_catalog.errors import ObjectMissing
from data_catalog.nouns import OrderedShard
from infra import shard_cache
from tests.homes import small_disk, wait_for

pytestmark = pytest.mark.property

HEAD = shard_cache.DIGEST_BYTES
NAMES = st.sampled_from([f"datasets/d/shards/{letter}.arrow.zstd" for letter in "abcdefgh"])


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


class Cache(RuleBasedStateMachine):
    """The cache beside a dictionary whose order is the order of use."""

    @initialize(most=st.integers(0, 400))
    def begin(self, most: int) -> None:
        self.folder, self.most = Path(tempfile.mkdtemp()), most
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(key=NAMES, data=st.binary(max_size=200))
    def put(self, key: str, data: bytes) -> None:
        shard_cache.put(self.folder, key, data, self.most)
        if HEAD + len(data) > self.most:
            return
        self.model.pop(key, None)
        self.model[key] = data
        while sum(HEAD + len(each) for each in self.model.values()) > self.most:
            del self.model[next(iter(self.model))]

    @rule(key=NAMES)
    def get(self, key: str) -> None:
        assert shard_cache.get(self.folder, key) == self.model.get(key)
        if key in self.model:
            self.model[key] = self.model.pop(key)

    @rule(key=NAMES)
    def drop(self, key: str) -> None:
        shard_cache.drop(self.folder, key)
        self.model.pop(key, None)

    @rule(key=NAMES, at=st.integers(0, 300))
    def damage(self, key: str, at: int) -> None:
        path = self.folder / key.rpartition("/")[2]
        if path.exists():
            content = bytearray(path.read_bytes())
            content[at % len(content)] ^= 1
            path.write_bytes(bytes(content))
            assert shard_cache.get(self.folder, key) is None
            assert not path.exists(), "a damaged entry is removed"
            self.model.pop(key)

    @rule(key=NAMES, share=st.floats(0, 0.99))
    def cut_short(self, key: str, share: float) -> None:
        path = self.folder / key.rpartition("/")[2]
        if path.exists():
            os.truncate(path, int(path.stat().st_size * share))
            assert shard_cache.get(self.folder, key) is None
            self.model.pop(key)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "folder"):
            assert held(self.folder) <= self.most
            assert len(list(self.folder.iterdir())) == len(self.model)


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=150, deadline=None)
@given(room=st.integers(1, 4), steps=st.lists(st.tuples(st.sampled_from(("put", "get")), NAMES), max_size=40))
def test_the_least_recently_used_leaves_first(room, steps):
    """Entries of one size: who is left is who was read or written last."""
    used: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for what, key in steps:
            if what == "put":
                shard_cache.put(Path(name), key, b"10 bytes..", room * (HEAD + 10))
            else:
                assert (shard_cache.get(Path(name), key) is not None) == (key in used)
            if what == "put" or key in used:
                used = [*(each for each in used if each != key), key][-room:]
        assert {path.name for path in Path(name).iterdir()} == {key.rpartition("/")[2] for key in used}


class CountingStore:
    """Objects in memory that counts how often each was asked for."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.asked = objects, []

    def get(self, key: str) -> bytes:
        self.asked.append(key)
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key]


def shard(key: str, local: bool) -> OrderedShard:
    return OrderedShard(key=key, digest="d", rows=1, bytes=1, codec="none", result="r", local=local)


def test_what_crossed_the_link_does_not_cross_it_again(tmp_path):
    store = CountingStore({"x/far": b"far", "x/near": b"near"})
    for crossed in (3, 0, 0):
        assert shard_cache.read_shard(store, shard("x/far", False), tmp_path, 1000) == (b"far", crossed)
        assert shard_cache.read_shard(store, shard("x/near", True), tmp_path, 1000) == (b"near", 4)
    assert store.asked.count("x/far") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["far"]
    (tmp_path / "far").write_bytes(b"damaged")
    assert shard_cache.read_shard(store, shard("x/far", False), tmp_path, 1000) == (b"far", 3)
    assert shard_cache.read_shard(store, shard("x/far", False), tmp_path, 1000) == (b"far", 0)


def test_without_a_cache_everything_comes_from_the_store(tmp_path):
    store = CountingStore({"x/far": b"far"})
    for _ in range(2):
        assert shard_cache.read_shard(store, shard("x/far", False), tmp_path / "shards", 0) == (b"far", 3)
    assert not (tmp_path / "shards").exists()


def test_a_missing_object_leaves_nothing(tmp_path):
    with pytest.raises(ObjectMissing):
        shard_cache.read_shard(CountingStore({}), shard("x/gone", False), tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_small_disk_is_not_filled(tmp_path):
    with small_disk(tmp_path / "disk", "10m"):
        folder = tmp_path / "disk" / "shards"
        for number in range(30):
            shard_cache.put(folder, f"x/{number}", bytes(200_000), 1 << 30)
        assert 0 < held(folder) <= 1 << 20, "a tenth of what is free"
        with (tmp_path / "disk" / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        shard_cache.put(folder, "x/new", bytes(200_000), 1 << 30)  # no error: it is not kept
        assert shard_cache.get(folder, "x/new") is None
        assert not [path for path in folder.iterdir() if path.name.startswith(shard_cache.UNFINISHED)]


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "shards").write_text("a file where the folder should be")
    store = CountingStore({"x/far": b"far"})
    for _ in range(2):
        assert shard_cache.read_shard(store, shard("x/far", False), tmp_path / "shards", 1000) == (b"far", 3)


# --- processes --------------------------------------------------------------------------------------------

WORKER = """
import hashlib, random, sys
from pathlib import Path
from infra import shard_cache
folder, seed, most, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
choose, hits = random.Random(seed), 0
for _ in range(times):
    key = f"x/{choose.randrange(40)}"
    content = hashlib.sha256(key.encode()).digest() * choose.choice([3000])
    found = shard_cache.get(folder, key)
    hits += found is not None
    assert found in (None, content), key
    if found is None:
        shard_cache.put(folder, key, content, most)
print(hits)
"""


def start(*arguments: object, code: str = WORKER) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_processes_share_a_cache_without_locks(tmp_path):
    most = 10 * 96_100
    processes = [start(tmp_path, seed, most, 300) for seed in range(4)]
    hits = []
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, "every read was whole and right, and no race was an error"
        hits.append(int(out))
    assert all(hits)
    assert held(tmp_path) <= most
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(shard_cache.UNFINISHED)]


SLOW_WRITER = """
import sys, time
from pathlib import Path
from infra import shard_cache
class Slow(bytes):
    pass
rename = Path.rename
def never(self, target):
    print("written", flush=True)
    time.sleep(600)
Path.rename = never
shard_cache.put(Path(sys.argv[1]), "x/half", bytes(1_000_000), 1 << 30)
"""


def test_a_writer_that_is_killed_leaves_nothing_for_long(tmp_path):
    shard_cache.put(tmp_path, "x/before", b"before", 1 << 30)
    process = start(tmp_path, code=SLOW_WRITER)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    shard_cache.put(tmp_path, "x/meanwhile", b"meanwhile", 1 << 30)

    def unfinished() -> list[Path]:
        return [path for path in tmp_path.iterdir() if path.name.startswith(shard_cache.UNFINISHED)]

    assert len(unfinished()) == 1, "a living writer's file stays"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert shard_cache.get(tmp_path, "x/half") is None
    shard_cache.put(tmp_path, "x/after", b"after", 1 << 30)
    assert unfinished() == []
    assert {path.name for path in tmp_path.iterdir()} == {"before", "meanwhile", "after"}


def test_killed_anywhere_what_is_read_is_whole(tmp_path):
    """Writers that are killed at any instruction, while another one reads and writes."""
    for pause in (0.0, 0.02, 0.05, 0.1):
        process = start(tmp_path, 1, 10 * 96_100, 100_000)
        wait_for("an entry", lambda: tmp_path.exists() and any(tmp_path.iterdir()))
        if pause:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(pause)
        process.kill()
        process.wait()
        out, _ = (again := start(tmp_path, 2, 10 * 96_100, 100)).communicate(timeout=60)
        assert again.returncode == 0, out
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(shard_cache.UNFINISHED)]
