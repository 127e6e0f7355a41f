"""The way to the store and back when the link fails: a real S3 server behind a proxy that breaks it."""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_catalog.errors import (
    BadInput,
    CorruptObject,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from infra import storage, transfer
from infra.settings import Settings
from infra.stack import servers
from infra.storage import Store
from tests.homes import small_disk
from tests.proxy import Fault, Link, Request, link

pytestmark = pytest.mark.integration

PART = 5 << 20  # the least that S3 allows
HEADERS = 4096  # more than what a request and its answer carry beside the body


def settings_of(home: Path) -> Settings:
    return Settings(
        home=home, bucket=None, endpoint_url=None, prefect_api_url="none", dask_address=None, catalog_folders=()
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The variables of a store of its own; Prefect is not needed."""
    found = settings_of(tmp_path_factory.mktemp("store"))
    with servers.running(found) as up:
        up.wait()
        yield {name: v for name, v in servers.variables(up.state, found).items() if name[:3] in ("AWS", "CLO")}


@pytest.fixture
def broken(server, monkeypatch):
    """A store behind a link that can fail: both."""
    monkeypatch.setattr(transfer, "PART", PART)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    with link(server["AWS_ENDPOINT_URL"]) as made:
        for name, value in (server | {"AWS_ENDPOINT_URL": made.url}).items():
            monkeypatch.setenv(name, value)
        yield Store(server["CLOUDEDGE_BUCKET"]), made


@pytest.fixture(scope="module")
def large() -> bytes:
    """Four parts and a bit."""
    return random.Random(1).randbytes(4 * PART + 12345)


def once(pattern: str, fault: Fault, times: int = 1):
    """A fault for the first requests that fit."""
    left = [times]

    def decide(line: str) -> Fault | None:
        if re.search(pattern, line) and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return decide


def always(pattern: str, fault: Fault):
    return once(pattern, fault, 10**6)


def part_numbers(requests: list[Request]) -> Counter[int]:
    return Counter(int(re.search(r"partNumber=(\d+)", r.line)[1]) for r in requests if "partNumber=" in r.line)


def down(made: Link) -> int:
    return sum(request.down for request in made.requests)


def up(made: Link) -> int:
    return sum(request.up for request in made.requests)


# --- without a fault --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5000, PART, 2 * PART, 2 * PART + 1, 3 * PART, 4 * PART + 7])
def test_every_size_survives_both_ways(broken, tmp_path, size):
    store, _ = broken
    data = random.Random(size).randbytes(size)
    store.put(f"sizes/{size}", data)
    assert store.get(f"sizes/{size}") == data
    store.get_file(f"sizes/{size}", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data
    store.put_file(f"sizes/{size}-file", tmp_path / "down")
    assert store.get(f"sizes/{size}-file") == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down"], "nothing is left beside it"


def test_small_objects_cost_one_request_and_large_ones_go_in_parts(broken, large):
    store, made = broken
    store.put("small", b"s" * 1000)
    store.get("small")
    assert [r.line.partition(" ")[0] for r in made.requests] == ["PUT", "GET"]
    made.forget()
    store.put("large", large)
    assert part_numbers(made.requests) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    made.forget()
    store.get("large")
    assert len(made.seen("^GET")) == 5
    assert down(made) < len(large) + 5 * HEADERS


def test_the_digest_is_beside_the_object(broken, large):
    store, _ = broken
    for key, data in (("noted/small", b"some"), ("noted/large", large)):
        store.put(key, data)
        found = store._call("head_object", key)
        assert found["Metadata"] == {"sha256": hashlib.sha256(data).hexdigest()}


def test_objects_of_others_have_no_digest_and_are_read_all_the_same(broken, tmp_path, large):
    store, _ = broken
    for key, data in (("others/small", b"some"), ("others/large", large)):
        store._call("put_object", key, Body=data)
        assert store.get(key) == data
        store.get_file(key, tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == data


def test_a_write_does_not_wait_to_be_welcome(broken):
    """That would cost every result the link's latency."""
    store, made = broken
    store.put("welcome", b"some")
    (write,) = made.seen("^PUT .*welcome")
    assert not write.waits


def test_who_reads_what_is_written_over_gets_one_or_the_other(broken):
    """The gateway shows a reader the size of one and the bytes of the other; nobody may see that."""
    store, _ = broken
    written = [b"a" * 200, b"b", b"c" * 700]
    store.put("over", written[0])
    ended = threading.Event()

    def write() -> None:
        try:
            for number in range(200):
                store.put("over", written[number % 3])
        finally:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not ended.is_set():
        seen.add(store.get("over"))
    thread.join()
    assert seen <= set(written)
    assert len(seen) == len(written)


# --- a link that fails and comes back ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=500), Fault(cut_up=100), Fault(cut_down=0), Fault(cut_up=300_000)],
    ids=["503", "500", "cut in the header", "no answer", "cut in the body"],
)
def test_a_failed_write_is_repeated(broken, fault):
    store, made = broken
    data = random.Random(2).randbytes(400_000)
    made.fault = once("PUT", fault, 2)
    store.put("repeated", data)
    assert len(made.seen("PUT .*repeated")) == 3
    assert store.get("repeated") == data


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=500), Fault(cut_up=10), Fault(cut_down=0)])
def test_a_failed_read_is_repeated(broken, fault):
    store, made = broken
    store.put("repeated", b"data")
    made.forget()
    made.fault = once("GET", fault, 2)
    assert store.get("repeated") == b"data"
    assert len(made.seen("GET")) == 3


def test_a_body_that_breaks_off_is_read_on_from_there(broken):
    """Cut twice on the way: every byte crosses the link once."""
    store, made = broken
    data = random.Random(3).randbytes(3_000_000)
    store.put("cut", data)
    made.forget()
    made.fault = once("GET", Fault(cut_down=1_000_000), 2)
    assert store.get("cut") == data
    assert len(made.seen("GET")) == 3
    assert down(made) < len(data) + 3 * HEADERS + 2 * (1 << 18), "what was in flight at the cut may come again"


def test_an_upload_sends_only_the_part_that_failed_again(broken, large):
    store, made = broken
    made.fault = once(r"partNumber=3\b", Fault(cut_up=2_000_000))
    store.put("again", large)
    assert part_numbers(made.requests) == {1: 1, 2: 1, 3: 2, 4: 1, 5: 1}
    assert up(made) < len(large) + 2_000_000 + 12 * HEADERS
    assert store.get("again") == large


@pytest.mark.parametrize("new_store", [False, True], ids=["same process", "another process"])
def test_an_upload_that_was_given_up_goes_on_at_the_failed_part(broken, tmp_path, large, new_store):
    store, made = broken
    path = tmp_path / "file"
    path.write_bytes(large)
    made.fault = always(r"partNumber=3\b", Fault(cut_up=1000))
    with pytest.raises(StoreError, match="resumed"):
        store.put_file("resumed", path)
    assert storage.ATTEMPTS <= part_numbers(made.requests)[3] <= 2 * storage.ATTEMPTS  # aiohttp may double each
    sent = {number for number in part_numbers(made.requests) if number != 3}
    assert sent >= {1, 2}
    made.fault = lambda line: None
    made.forget()
    (Store(store.bucket) if new_store else store).put_file("resumed", path)
    assert not sent & set(part_numbers(made.requests)), "parts that the store has are not sent again"
    assert 3 in part_numbers(made.requests)
    assert up(made) < (5 - len(sent)) * PART + 10 * HEADERS
    assert store.get("resumed") == large
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_was_begun_with_other_content_is_not_gone_on_with(broken, tmp_path, large):
    store, made = broken
    path = tmp_path / "file"
    path.write_bytes(large)
    made.fault = always(r"partNumber=5\b", Fault(status=503))
    with pytest.raises(StoreError):
        store.put_file("changed", path)
    made.fault = lambda line: None
    made.forget()
    other = large[:-1] + bytes([large[-1] ^ 1])  # the same first parts, another last one
    path.write_bytes(other)
    store.put_file("changed", path)
    assert part_numbers(made.requests) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert store.get("changed") == other


def test_an_upload_that_the_store_forgot_begins_anew(broken, large):
    store, made = broken
    made.fault = always(r"partNumber=2\b", Fault(status=503))
    with pytest.raises(StoreError):
        store.put("forgotten", large)
    (upload_id,) = store._begun.values()
    store._call("abort_multipart_upload", "forgotten", UploadId=upload_id)
    made.fault = lambda line: None
    store.put("forgotten", large)
    assert store.get("forgotten") == large
    assert not store._begun


def test_writers_of_one_content_do_not_disturb_each_other(broken, large):
    store, made = broken
    made.fault = once(r"partNumber=2\b", Fault(cut_up=1000), 2)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: store.put("together", large), range(3)))
    assert store.get("together") == large
    assert not store._begun


def test_a_lost_answer_to_the_completion_is_no_failure(broken, large):
    """The upload is complete, the answer never came, the repeated request finds no such upload."""
    store, made = broken
    made.fault = once(r"POST .*uploadId=", Fault(cut_down=0))
    store.put("completed", large)
    assert len(made.seen(r"POST .*uploadId=")) == 2
    assert store.get("completed") == large


def test_a_download_asks_only_for_the_ranges_that_are_missing(broken, tmp_path, large):
    store, made = broken
    store.put("ranges", large)
    path = tmp_path / "down"
    made.forget()
    gets = Counter()

    def third_fails(line: str) -> Fault | None:
        gets["get"] += line.startswith("GET")
        return Fault(cut_down=2000) if gets["get"] >= 3 else None

    made.fault = third_fails
    with pytest.raises(StoreUnreachable, match="ranges"):
        store.get_file("ranges", path)
    assert not path.exists()
    lines = (tmp_path / "down.ranges").read_text().splitlines()
    done = len(lines) - 1
    assert 1 <= done < 5
    made.fault = lambda line: None
    made.forget()
    Store(store.bucket).get_file("ranges", path)
    assert path.read_bytes() == large
    assert down(made) < len(large) - (done - 1) * PART + 10 * HEADERS, "ranges that are there are not asked for"
    assert [p.name for p in tmp_path.iterdir()] == ["down"]


def test_a_download_begins_anew_when_the_object_changed(broken, tmp_path, large):
    store, _ = broken
    store.put("anew", large)
    path = tmp_path / "down"
    (tmp_path / "down.part").write_bytes(large[:PART] + bytes(len(large) - PART))
    (tmp_path / "down.ranges").write_text(f"{len(large)} {'0' * 64}\n0\n{PART}\n{2 * PART}\n{3 * PART}\n")
    store.get_file("anew", path)
    assert path.read_bytes() == large


def test_a_journal_that_lies_is_found_out(broken, tmp_path, large):
    """The disk lost what the journal promises: the digest tells, and all is read again."""
    store, _ = broken
    store.put("lied", large)
    (tmp_path / "down.part").write_bytes(bytes(len(large)))
    version = f"{len(large)} {hashlib.sha256(large).hexdigest()}"
    (tmp_path / "down.ranges").write_text(f"{version}\n0\n{PART}\n{2 * PART}\n{3 * PART}\n{4 * PART}\n")
    store.get_file("lied", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == large


# --- a byte that flips ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100_000, 3 * PART])
def test_a_byte_that_flips_on_the_way_down_is_found_and_read_again(broken, tmp_path, size):
    store, made = broken
    data = random.Random(4).randbytes(size)
    store.put("flipped", data)
    made.fault = once("GET", Fault(flip_down=50_000))
    assert store.get("flipped") == data
    made.fault = once("GET", Fault(flip_down=50_000))
    store.get_file("flipped", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data


def test_bytes_that_flip_each_time_are_an_error_that_names_the_object(broken, tmp_path):
    store, made = broken
    store.put("flips/always", bytes(100_000))
    made.fault = always("GET", Fault(flip_down=50_000))
    for read in (lambda: store.get("flips/always"), lambda: store.get_file("flips/always", tmp_path / "down")):
        with pytest.raises(CorruptObject, match=r"flips/always is corrupt .*delete that object"):
            read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [100_000, 3 * PART])
def test_a_byte_that_flips_on_the_way_up_is_refused_by_the_store_and_sent_again(broken, size):
    store, made = broken
    data = random.Random(5).randbytes(size)
    made.fault = once("PUT", Fault(flip_up=50_000))
    store.put("flipped-up", data)
    assert len(made.seen("PUT")) == (2 if size < PART else 4)
    made.fault = lambda line: None
    assert store.get("flipped-up") == data


# --- a link that stays broken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("get", Fault(cut_down=0)),
        ("get_file", Fault(status=503)),
        ("put", Fault(cut_up=10)),
        ("put", Fault(status=503)),
        ("put large", Fault(cut_up=10)),
    ],
)
def test_what_fails_for_good_is_one_error_that_names_the_key(broken, tmp_path, large, what, fault):
    store, made = broken
    store.put("for/good", b"data")
    made.fault = always(r"/for/good", fault)
    does = {
        "get": lambda: store.get("for/good"),
        "put": lambda: store.put("for/good", b"data"),
        "put large": lambda: store.put("for/good", large),
        "get_file": lambda: store.get_file("for/good", tmp_path / "down"),
    }
    with pytest.raises(StoreError, match="for/good") as caught:
        does[what]()
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ObjectMissing)


@pytest.mark.parametrize(
    ("size", "fault"),
    [(1000, Fault(stall_down=True)), (20_000_000, Fault(stall_up=True))],
    ids=["no answer", "nothing is taken"],
)
def test_a_link_that_stalls_is_given_up(broken, monkeypatch, size, fault):
    store, made = broken
    monkeypatch.setattr(storage, "STALLED_SECONDS", 0.7)
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    monkeypatch.setattr(transfer, "PART", 64 << 20)
    made.fault = always("PUT", fault)
    with pytest.raises(StoreUnreachable, match="stalled"):
        store.put("stalled", bytes(size))
    made.fault = lambda line: None
    store.put("stalled", b"well again")
    made.fault = always("GET", Fault(stall_down=True))
    with pytest.raises(StoreUnreachable, match="stalled"):
        store.get("stalled")
    made.fault = once("GET", Fault(stall_down=True))
    assert store.get("stalled") == b"well again"


def test_a_body_of_a_few_bytes_a_request_is_given_up(broken):
    store, made = broken
    store.put("endless", bytes(1_000_000))
    made.fault = always("GET", Fault(cut_down=700))
    with pytest.raises(StoreUnreachable, match="broke off"):
        store.get("endless")
    assert len(made.seen("GET")) <= storage.ATTEMPTS


# --- what the store itself says ---------------------------------------------------------------------------


def test_every_refusal_has_its_name(server, monkeypatch, tmp_path, large):
    monkeypatch.setattr(transfer, "PART", PART)
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(large)

    def ways(store: Store):
        yield lambda: store.put("k", b"x")
        yield lambda: store.put("k", large)
        yield lambda: store.put_file("k", tmp_path / "file")
        yield lambda: store.get("k")
        yield lambda: store.get_file("k", tmp_path / "down")

    for way in list(ways(Store("not-there"))):
        with pytest.raises(StoreRefused, match=r"no bucket 'not-there'.*CLOUDEDGE_BUCKET"):
            way()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for way in list(ways(Store(server["CLOUDEDGE_BUCKET"]))):
        with pytest.raises(StoreRefused, match="AWS_SECRET_ACCESS_KEY"):
            way()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    for way in list(ways(Store(server["CLOUDEDGE_BUCKET"]))):
        with pytest.raises(StoreUnreachable, match="AWS_ENDPOINT_URL"):
            way()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_missing_object_is_missing(broken, tmp_path):
    store, _ = broken
    for read in (lambda: store.get("no/such"), lambda: store.get_file("no/such", tmp_path / "down")):
        with pytest.raises(ObjectMissing, match="no/such is not in the store"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_the_users_fault(broken, tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        broken[0].put_file("k", tmp_path / "nothing")


@pytest.mark.parametrize("size", [1000, 3 * PART], ids=["at once", "in parts"])
def test_a_full_store_has_its_name(broken, size):
    store, made = broken
    made.fault = always("PUT", Fault(status=507, code="XMinioStorageFull"))
    with pytest.raises(StoreFull, match=r"no space left while writing cloudedge/full .*free some"):
        store.put("full", bytes(size))


def test_a_full_disk_under_a_download_has_its_name(broken, tmp_path, large):
    store, _ = broken
    store.put("too-large", large)
    with small_disk(tmp_path / "disk", "8m"), pytest.raises(StoreFull, match=r"too-large.*free some"):
        store.get_file("too-large", tmp_path / "disk" / "down")
