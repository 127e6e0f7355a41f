"""What a site obeys, and what it refuses by name."""

from __future__ import annotations

import json
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog.errors import KeyMissing, OrderRefused
from infra.security import presigning, signing

pytestmark = pytest.mark.unit

SIGNER = presigning.Signer(
    "bucket", "http://127.0.0.1:9000/bucket", "us-east-1", "AKIAIOSFODNN7EXAMPLE", "secret/KEY+1"
)
NOW = 1_800_000_000.0


def access(seconds: int = 600):
    return presigning.sign_access(SIGNER, ["a"], ["b"], NOW, seconds, 1000)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return signing.signing_key(tmp_path_factory.mktemp("coordinator"))


@pytest.fixture
def envelope():
    return signing.enclose("order", "ward-1", "run/ward-1", {"rows": 3}, access(), NOW)


def verify(data, key, site="ward-1", kind="order", now=NOW):
    return signing.verify(data, signing.public_key(key), kind, site, "the order", now)


def test_a_signed_order_is_read_as_it_was_written(key, envelope):
    assert verify(signing.sign(key, envelope), key) == envelope


def test_the_private_key_is_its_owners_and_stays_the_same(tmp_path):
    first = signing.public_key(signing.signing_key(tmp_path))
    assert signing.public_key(signing.signing_key(tmp_path)) == first
    assert stat.S_IMODE((tmp_path / signing.PRIVATE_KEY).stat().st_mode) == 0o600
    (tmp_path / signing.PRIVATE_KEY).write_text("no key")
    with pytest.raises(KeyMissing, match="restore it from a copy"):
        signing.signing_key(tmp_path)


def test_an_order_of_another_coordinator_is_forged(key, envelope, tmp_path):
    other = signing.signing_key(tmp_path)
    with pytest.raises(OrderRefused, match="forged"):
        verify(signing.sign(other, envelope), key)
    head, _, body = signing.sign(other, envelope).partition(b"\n")
    lying = json.dumps(json.loads(head) | {"key": signing.key_id(signing.public_key(key))}).encode()
    with pytest.raises(OrderRefused, match="altered or forged"):
        verify(lying + b"\n" + body, key)


@given(st.data())
def test_no_byte_of_an_order_can_be_changed(key, data):
    signed = signing.sign(key, signing.enclose("order", "ward-1", "run/ward-1", {"rows": 3}, access(), NOW))
    start = signed.index(b"\n")
    at = data.draw(st.integers(start, len(signed) - 1))
    flipped = signed[:at] + bytes([signed[at] ^ 1 << data.draw(st.integers(0, 7))]) + signed[at + 1 :]
    with pytest.raises(OrderRefused, match=r"altered|not signed"):
        verify(flipped, key)
    with pytest.raises(OrderRefused):
        verify(signed[:at], key)


def test_an_order_is_for_one_site_and_of_one_kind(key, envelope):
    signed = signing.sign(key, envelope)
    with pytest.raises(OrderRefused, match="for site ward-1, not for ward-2"):
        verify(signed, key, site="ward-2")
    with pytest.raises(OrderRefused, match="signed as order, not as mailbox"):
        verify(signed, key, kind="mailbox")


def test_an_order_lives_as_long_as_its_access_and_the_skew_of_clocks(key, envelope):
    signed = signing.sign(key, envelope)
    verify(signed, key, now=NOW + 600 + signing.SKEW_SECONDS)
    with pytest.raises(OrderRefused, match="expired"):
        verify(signed, key, now=NOW + 601 + signing.SKEW_SECONDS)
    verify(signed, key, now=NOW - signing.SKEW_SECONDS)
    with pytest.raises(OrderRefused, match="in the future"):
        verify(signed, key, now=NOW - signing.SKEW_SECONDS - 1)


def test_what_is_not_signed_is_refused(key):
    for data in (b"", b"{}", b'{"key": 1}\n{}', b"\xff\n{}"):
        with pytest.raises(OrderRefused):
            verify(data, key)


def test_an_order_is_done_once_and_an_old_mailbox_is_not_read(tmp_path):
    path, now = tmp_path / "ward-1" / "done.json", time.time()
    live = presigning.sign_access(SIGNER, [], [], now, 600, 0)
    first, second = (signing.enclose("order", "ward-1", name, {}, live, now) for name in ("first", "second"))
    signing.require_new(path, first)
    signing.note_done(path, first)
    with pytest.raises(OrderRefused, match="order first of site ward-1 is replayed"):
        signing.require_new(path, first)
    signing.require_new(path, second)
    old, new = (signing.enclose("mailbox", "ward-1", "", {}, live, now + later) for later in (0, 1))
    signing.note_done(path, new)
    signing.require_new(path, new)
    with pytest.raises(OrderRefused, match="mailbox of site ward-1 is replayed"):
        signing.require_new(path, old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_has_expired_is_forgotten(tmp_path):
    path = tmp_path / "done.json"
    signing.note_done(
        path,
        signing.enclose("order", "ward-1", "long ago", {}, access(), NOW - 10**9).model_copy(update={"not_after": 1.0}),
    )
    assert json.loads(path.read_text())["done"] == {}


def test_the_signature_is_botocores():
    """The same request, signed at the same second by botocore's own code."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    key = "results/ab/a name~with odd+letters.parquet"
    begun = time.time()
    request = AWSRequest("GET", f"{SIGNER.url}/results/ab/a%20name~with%20odd%2Bletters.parquet")
    S3SigV4QueryAuth(
        Credentials(SIGNER.access_key, SIGNER.secret_key, "token"), "s3", "us-east-1", expires=77
    ).add_auth(request)
    stamps = {int(begun), int(time.time())}
    signer = presigning.Signer("bucket", SIGNER.url, "us-east-1", SIGNER.access_key, SIGNER.secret_key, "token")
    ours = [presigning.read_url(presigning.sign_access(signer, [key], [], now, 77, 0), key) for now in stamps]

    def parts(url):
        place, _, query = url.partition("?")
        return place, sorted(query.split("&"))

    assert parts(request.url) in [parts(url) for url in ours]


def test_a_signer_does_not_show_its_secret():
    assert "secret" not in repr(SIGNER)
