"""What the store's client raises becomes our errors: with the errors that botocore and s3fs really raise."""

from __future__ import annotations

import errno

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from s3fs.errors import translate_boto_error

from data_catalog.errors import (
    BadInput,
    CatalogError,
    CorruptObject,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from infra import storage

pytestmark = pytest.mark.unit


def from_s3(code: str, message: str) -> Exception:
    """What s3fs raises when the server answers with this."""
    return translate_boto_error(ClientError({"Error": {"Code": code, "Message": message}}, "GetObject"))


def raised(error: BaseException, key: str = "results/aa/k.parquet", bucket: str = "things") -> BaseException:
    with pytest.raises(Exception, match=r"\S") as caught, storage.translated(key, bucket):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            from_s3("NoSuchKey", "The specified key does not exist."),
            ObjectMissing,
            "things/results/aa/k.parquet is not in",
        ),
        (from_s3("404", "Not Found"), ObjectMissing, "run the flow again"),
        (FileNotFoundError("things/results/aa/k.parquet"), ObjectMissing, "things/results/aa/k.parquet"),
        (from_s3("NoSuchBucket", "The specified bucket does not exist"), StoreRefused, "no bucket 'things'"),
        (from_s3("AccessDenied", "Access Denied."), StoreRefused, "AWS_ACCESS_KEY_ID"),
        (from_s3("InvalidAccessKeyId", "no such key id"), StoreRefused, "AWS_SECRET_ACCESS_KEY"),
        (from_s3("SignatureDoesNotMatch", "wrong secret"), StoreRefused, "wrong secret"),
        (NoCredentialsError(), StoreRefused, "credentials"),
        (
            from_s3("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold"),
            StoreFull,
            "free some",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), StoreFull, "things/results/aa/k.parquet"),
        (EndpointConnectionError(endpoint_url="http://s3:9000"), StoreUnreachable, "http://s3:9000"),
        (ConnectTimeoutError(endpoint_url="http://s3:9000"), StoreUnreachable, "AWS_ENDPOINT_URL"),
        (ReadTimeoutError(endpoint_url="http://s3:9000"), StoreUnreachable, "no answer"),
        (ConnectionResetError("reset by peer"), StoreUnreachable, "reset by peer"),
        (TimeoutError(), StoreUnreachable, "TimeoutError"),
        (from_s3("SlowDown", "Reduce your request rate."), StoreError, "Reduce your request rate"),
        (from_s3("InternalError", "We encountered an\ninternal error"), StoreError, "an internal error"),
    ],
)
def test_every_failure_of_the_store_gets_its_own_name(error, kind, says):
    caught = raised(error)
    assert type(caught) is kind
    assert says in str(caught)
    assert "\n" not in str(caught)
    assert caught.__cause__ is error, "the cause is kept"
    assert isinstance(caught, BadInput) == (kind is StoreRefused)


@pytest.mark.parametrize(("key", "bucket"), [("results/k", "my-bucket"), ("bucket/list", "things")])
def test_a_missing_object_is_no_missing_bucket_whatever_it_is_called(key, bucket):
    assert type(raised(FileNotFoundError(f"{bucket}/{key}"), key, bucket)) is ObjectMissing


def test_without_a_key_what_is_missing_is_the_bucket():
    assert type(raised(FileNotFoundError("things"), "")) is StoreRefused


def test_our_own_errors_and_bugs_pass_unchanged():
    for error in (CorruptObject("x is corrupt"), ZeroDivisionError("a bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, storage.translated("k", "b"):
            raise error
        assert caught.value is error


def test_no_secret_and_no_page_of_text_gets_into_a_message():
    assert len(str(raised(OSError("x" * 5000)))) < 400


def test_a_store_travels_by_name():
    import pickle

    store = storage.open_store("by-name")
    assert pickle.loads(pickle.dumps(store)) is store


@pytest.mark.parametrize("kind", ["path", "file", "package"])
def test_local_copy_finds_files(tmp_path, kind):
    (tmp_path / "x.csv").write_text("1,2\n")
    uri = {
        "path": str(tmp_path / "x.csv"),
        "file": (tmp_path / "x.csv").as_uri(),
        "package": "package://data_catalog/nouns.py",
    }[kind]
    found = storage.local_copy(uri, tmp_path / "downloads")
    assert found.is_file()
    assert found.name == uri.rpartition("/")[2]
    assert storage.file_digest(found) == storage.file_digest(storage.local_copy(uri, tmp_path / "downloads"))


@pytest.mark.parametrize(
    "uri",
    [
        "nowhere.csv",
        "package://no_such_module/x.csv",
        "package://no_such_module.data/x.csv",
        "package:///x.csv",
        "package://data_catalog/no-such-file",
        "nosuchscheme://x/y",
        "file:///no/such/file",
    ],
)
def test_a_source_that_is_not_there_is_named(tmp_path, uri):
    with pytest.raises(CatalogError) as caught:
        storage.local_copy(uri, tmp_path)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_content_to_digest_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        storage.file_digest(tmp_path)


def test_no_store_is_set(monkeypatch):
    monkeypatch.delenv("CLOUDEDGE_BUCKET", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(StoreRefused, match="no store is set"):
        storage.open_store(None)
