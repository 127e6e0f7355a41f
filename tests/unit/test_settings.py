"""Settings: what the environment may say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_catalog.errors import SettingError
from infra.settings import inherited, read_settings

pytestmark = pytest.mark.unit

KNOWN = (
    "CLOUDEDGE_HOME",
    "CLOUDEDGE_BUCKET",
    "CLOUDEDGE_DASK",
    "CLOUDEDGE_CATALOG",
    "AWS_ENDPOINT_URL",
    "PREFECT_API_URL",
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)


def test_without_variables_everything_is_local(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    settings = read_settings()
    assert settings.home == Path("/home/someone/.local/share/cloudedge")
    assert (settings.bucket, settings.endpoint_url, settings.prefect_api_url, settings.dask_address) == (None,) * 4
    assert settings.catalog_folders == ()


def test_what_is_set_is_read(monkeypatch):
    values = ("~/h", "bucket", "tcp://d:1", "/a:/b/c:", "http://s3:9000", "http://p/api")
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in zip(KNOWN, values, strict=True):
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.home == Path("/home/someone/h")
    assert (settings.bucket, settings.dask_address) == ("bucket", "tcp://d:1")
    assert settings.catalog_folders == (Path("/a"), Path("/b/c"))
    assert (settings.endpoint_url, settings.prefect_api_url) == ("http://s3:9000", "http://p/api")
    assert inherited()["CLOUDEDGE_BUCKET"] == "bucket"


def test_a_relative_home_does_not_depend_on_later_changes_of_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUDEDGE_HOME", "here")
    assert read_settings().home == tmp_path / "here"


def test_an_empty_variable_is_not_set(monkeypatch):
    for name in KNOWN:
        monkeypatch.setenv(name, "")
    assert read_settings().bucket is None
    assert read_settings().catalog_folders == ()


def test_half_a_pair_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3:9000")
    with pytest.raises(SettingError, match=r"AWS_ENDPOINT_URL is set but CLOUDEDGE_BUCKET is not; .*unset both"):
        read_settings()


def test_a_bucket_that_s3_would_refuse_is_refused_here(monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_BUCKET", "ab")
    with pytest.raises(SettingError, match="CLOUDEDGE_BUCKET='ab' is too short"):
        read_settings()


def test_the_shard_cache_is_bounded_by_a_whole_number(monkeypatch):
    monkeypatch.delenv("CLOUDEDGE_SHARD_CACHE_MIB", raising=False)
    assert read_settings().shard_cache_bytes == 1 << 30
    monkeypatch.setenv("CLOUDEDGE_SHARD_CACHE_MIB", "0")
    assert read_settings().shard_cache_bytes == 0
    for wrong in ("1GiB", "-1", "1.5", "²"):
        monkeypatch.setenv("CLOUDEDGE_SHARD_CACHE_MIB", wrong)
        with pytest.raises(SettingError, match=f"CLOUDEDGE_SHARD_CACHE_MIB='{wrong}' is no whole number of MiB"):
            read_settings()


def test_coordinators_and_their_lease_are_numbers_from_one(monkeypatch):
    for name in ("CLOUDEDGE_COORDINATORS", "CLOUDEDGE_LEASE_SECONDS", "CLOUDEDGE_ETCD_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = read_settings()
    assert (settings.coordinators, settings.lease_seconds, settings.etcd_urls) == (1, 15.0, ())
    monkeypatch.setenv("CLOUDEDGE_ETCD_URL", "http://a:2379/,http://b:2379")
    monkeypatch.setenv("CLOUDEDGE_LEASE_SECONDS", "2.5")
    assert read_settings().etcd_urls == ("http://a:2379", "http://b:2379")
    assert read_settings().lease_seconds == 2.5
    for name, wrong in (
        ("COORDINATORS", "0"),
        ("COORDINATORS", "two"),
        ("LEASE_SECONDS", "0.5"),
        ("LEASE_SECONDS", "1s"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"CLOUDEDGE_{name}", wrong)
            with pytest.raises(SettingError, match=f"CLOUDEDGE_{name}='{wrong}' is no"):
                read_settings()
