"""Every way to agree of the registry through its published suite, on a real server each."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_catalog.errors import Conflict, SettingError, StoreUnreachable
from infra.agreement import AGREEMENTS, Register, s3
from infra.settings import Settings
from infra.storage import open_store
from infra.testing import agreement_suite
from tests.agreement import conditional_s3, etcd

pytestmark = pytest.mark.conformance

NONE = Settings(
    home=Path("/nowhere"), bucket="agreement", endpoint_url=None, prefect_api_url=None, dask_address=None, catalog_folders=()
)  # fmt: skip


def settings_of(**more: object) -> Settings:
    return Settings(**{name: getattr(NONE, name) for name in NONE.__slots__} | more)


@pytest.fixture(scope="module", params=AGREEMENTS.names())
def register(request, tmp_path_factory) -> Register:
    """A register of each way, on a server of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "etcd":
        with etcd(folder) as url:
            yield AGREEMENTS.get("etcd").connect(settings_of(etcd_urls=("http://127.0.0.1:1", url)))
        return
    assert request.param == "s3", "a new way needs a server here"
    with conditional_s3(folder) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        open_store.cache_clear()
        yield AGREEMENTS.get("s3").connect(settings_of())
        open_store.cache_clear()


@pytest.mark.parametrize("check", agreement_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_agreement(register, check):
    check(register)


def test_etcd_that_is_not_there_or_not_named_is_one_line():
    with pytest.raises(StoreUnreachable, match=r"etcd at http://127\.0\.0\.1:1 gave no answer"):
        AGREEMENTS.get("etcd").connect(settings_of(etcd_urls=("http://127.0.0.1:1",)))
    with pytest.raises(SettingError, match="needs CLOUDEDGE_ETCD_URL"):
        AGREEMENTS.get("etcd").connect(settings_of())


class Careless(s3.Objects):
    """A register that ignores some condition, as stores do."""

    def __init__(self, ignores: str) -> None:
        self.ignores, self.value = ignores, (b"", "")

    def read(self, name):
        return self.value if self.value[1] else None

    def swap(self, name, version, value):
        there = self.value[1]
        kept = {"new": version is None, "match": version is not None, "unknown": version not in ("", there)}
        if (version or "") != there and not kept.get(self.ignores):
            raise Conflict(name)
        self.value = (value, f"{int(there or 0) + 1}")
        return self.value[1]


@pytest.mark.parametrize(("ignores", "named"), [("new", "If-None-Match"), ("match", "If-Match"), ("", "")])
def test_the_probe_finds_the_condition_that_is_ignored(ignores, named):
    assert named in s3.probe(Careless(ignores), "probe")
    assert bool(s3.probe(Careless(ignores), "probe")) == bool(named)
