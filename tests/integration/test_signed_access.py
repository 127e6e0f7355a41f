"""What a site without credentials can do with the signatures that it holds, on the real S3 server, and what it cannot."""

from __future__ import annotations

import base64
import hashlib
import pickle
import time

import httpx
import pytest

from data_catalog.errors import CorruptObject, ObjectMissing, StoreRefused, StoreUnreachable
from infra import keys
from infra.security import presigning
from infra.signed_store import SignedStore, slots
from tests.proxy import Fault, link

pytestmark = pytest.mark.integration

MINE, OTHERS = "results/aa/mine.parquet", "results/bb/others.parquet"
OUTBOX = keys.outbox("ward-1", "0123")
MOST = 100_000


@pytest.fixture
def access(up_store):
    up_store.put("datasets/d/shards/mine.arrow.zstd", b"my shard")
    up_store.put("datasets/d/shards/others.arrow.zstd", b"not my shard")
    up_store.delete(MINE)
    up_store.put(OTHERS, b"not my result")
    places = [keys.slot(OUTBOX, number) for number in range(2)]
    return grant(up_store, writes=(MINE, keys.parcels(OUTBOX), *places), outbox=OUTBOX)


def grant(store, reads=("datasets/d/shards/mine.arrow.zstd", MINE), writes=(MINE,), seconds=60, outbox=""):
    return presigning.sign_access(store.signer(), reads, writes, time.time(), seconds, MOST, outbox, ["escalations/"])


def test_a_site_reads_and_writes_its_own(up_store, access, tmp_path):
    site = SignedStore(access)
    assert site.get("datasets/d/shards/mine.arrow.zstd") == b"my shard"
    assert site.get_start("datasets/d/shards/mine.arrow.zstd", 2) == b"my"
    assert not site.exists(MINE)
    with pytest.raises(ObjectMissing, match=MINE):
        site.get(MINE)
    site.put(MINE, b"answers")
    assert site.present([MINE, OTHERS]) == {MINE}
    assert up_store.get(MINE) == b"answers"  # compared with the digest that the site noted
    (tmp_path / "file").write_bytes(b"from a file")
    site.put_file(MINE, tmp_path / "file")
    site.get_file(MINE, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"from a file"
    site.put(MINE, b"")
    assert site.get(MINE) == b""
    assert pickle.loads(pickle.dumps(site)).get(MINE) == b""
    assert site.keys("results") == [MINE]


def test_a_site_is_told_by_name_what_its_orders_do_not_let_it(up_store):
    site = SignedStore(grant(up_store))
    with pytest.raises(ObjectMissing, match="none of its orders names it"):
        site.get(OTHERS)
    for attempt in (lambda: site.put(OTHERS, b"1"), lambda: site.delete(OTHERS)):
        with pytest.raises(StoreRefused, match="is not among the objects that this site's orders let it write"):
            attempt()
    with pytest.raises(StoreRefused, match="100,001 bytes, more than the 100,000"):
        site.put(MINE, b"1" * (MOST + 1))
    with pytest.raises(StoreRefused, match="single objects"):
        site.check()
    assert not site.exists(OTHERS)


def test_with_everything_a_site_holds_it_gets_nothing_else(up_store, access):
    """Whoever steals a site has these texts, and an HTTP client."""
    read = presigning.read_url(access, "datasets/d/shards/mine.arrow.zstd")
    form = presigning.write_form(access, MINE, "00")
    file = {"file": ("x", b"forged")}
    other = "datasets/d/shards/others.arrow.zstd"
    query = read.partition("?")[2]
    before = {key: up_store.get(key) for key in (OTHERS, other)}
    refused = [
        httpx.get(f"{access.url}/{other}?{query}"),
        httpx.get(f"{access.url}/{other}"),
        httpx.get(f"{access.url}?list-type=2"),
        httpx.get(f"{access.url}?list-type=2&{query}"),
        httpx.get(f"{access.url.rpartition('/')[0]}/?{query}"),
        httpx.head(read),
        httpx.put(read, content=b"forged"),
        httpx.delete(read),
        httpx.delete(f"{access.url}/{OTHERS}?{query}"),
        httpx.get(read.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")),
        httpx.get(read[:-1] + ("0" if read[-1] != "0" else "1")),
        httpx.get(read + "&uploads"),
        httpx.put(read, headers={"x-amz-copy-source": f"/{access.bucket}/{other}"}),
        httpx.post(access.url, data=form | {"key": OTHERS}, files=file),
        httpx.post(access.url, data=form | {"key": f"{MINE}/../../bb/others.parquet"}, files=file),
        httpx.post(access.url, data=form | {"x-amz-meta-more": "1"}, files=file),
        httpx.post(access.url, data={k: v for k, v in form.items() if k != "policy"}, files=file),
        httpx.post(access.url, data={k: v for k, v in form.items() if k != "x-amz-signature"}, files=file),
        httpx.post(access.url, data=form | {"policy": loosened(form["policy"])}, files=file),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused), [
        (number, answer.status_code, answer.text) for number, answer in enumerate(refused) if answer.status_code != 403
    ]
    assert httpx.post(access.url, data=form, files={"file": ("x", b"1" * (MOST + 1))}).status_code == 400
    delete = b"<Delete><Object><Key>" + OTHERS.encode() + b"</Key></Object></Delete>"
    summed = base64.b64encode(hashlib.md5(delete).digest()).decode()
    httpx.post(f"{access.url}?delete&{query}", content=delete, headers={"Content-MD5": summed})
    assert {key: up_store.get(key) for key in before} == before


def test_a_write_copies_nothing_to_where_the_site_can_read_it(up_store, access):
    """As a presigned PUT would on this server."""
    form = presigning.write_form(access, MINE, hashlib.sha256(b"mine").hexdigest())
    source = {"x-amz-copy-source": f"/{access.bucket}/{OTHERS}"}
    httpx.post(access.url, data=form | source, files={"file": ("x", b"mine")}, headers=source)
    assert up_store.get(MINE) == b"mine"


def test_after_its_time_an_access_opens_nothing(up_store):
    short = grant(up_store, seconds=1)
    time.sleep(2.1)
    site = SignedStore(short)
    with pytest.raises(StoreRefused, match=r"this site's access to it expired \d+ s ago"):
        site.get("datasets/d/shards/mine.arrow.zstd")
    with pytest.raises(StoreRefused, match="expired"):
        site.put(MINE, b"late")
    assert httpx.get(presigning.read_url(short, "datasets/d/shards/mine.arrow.zstd")).status_code == 403
    form = presigning.write_form(short, MINE, "00")
    assert httpx.post(short.url, data=form, files={"file": ("x", b"late")}).status_code == 403
    site.allow(grant(up_store))
    assert site.get("datasets/d/shards/mine.arrow.zstd") == b"my shard"


def test_what_has_no_name_yet_goes_into_the_outbox(up_store, access):
    site = SignedStore(access)
    site.put("escalations/ab/first", b"rows")
    site.put("escalations/ab/first", b"rows")  # again: the same slot
    site.put("escalations/cd/second", b"more rows")
    with pytest.raises(StoreRefused, match="let it write"):
        site.put("escalations/ef/third", b"too many")
    assert not up_store.exists("escalations/ab/first")
    assert {up_store.get(slot) for slot in slots(access)} == {b"rows", b"more rows"}
    site.close_outbox(OUTBOX)
    assert up_store.exists(keys.parcels(OUTBOX))


def test_a_body_that_breaks_off_is_read_on_and_a_silent_store_is_named(up_store, monkeypatch):
    data = bytes(range(256)) * 4000
    up_store.put("models/large", data)
    monkeypatch.setattr("infra.transfer.FIRST_PAUSE", 0.001)
    with link(up_store.signer().url.rpartition("/")[0]) as proxy:
        monkeypatch.setenv("CLOUDEDGE_PUBLIC_ENDPOINT", proxy.url)
        far = grant(up_store, reads=["models/large"])
        assert far.url.startswith(proxy.url)
        proxy.fault = lambda line: Fault(cut_down=300_000) if len(proxy.requests) < 3 else None
        assert SignedStore(far).get("models/large") == data
        assert len(proxy.requests) > 2
        assert sum(request.down for request in proxy.requests) < 1.1 * len(data)
        proxy.forget()
        proxy.fault = lambda line: Fault(status=503) if len(proxy.requests) < 2 else None
        SignedStore(grant(up_store)).put(MINE, b"at the second try")
    assert up_store.get(MINE) == b"at the second try"
    with pytest.raises(StoreUnreachable, match="models/large"):
        SignedStore(far).get("models/large")


def test_a_damaged_object_is_named(up_store, monkeypatch):
    up_store._call("put_object", "models/damaged", Body=b"other bytes", Metadata={"sha256": "00" * 32})
    with pytest.raises(CorruptObject, match="models/damaged"):
        SignedStore(grant(up_store, reads=["models/damaged"])).get("models/damaged")


def loosened(policy: str) -> str:
    return base64.b64encode(base64.b64decode(policy).replace(MINE.encode(), OTHERS.encode())).decode()
