"""The only module that knows fsspec and s3fs: objects in the bucket, and files that sources name.

A `Store` reads and writes whole objects; S3's PUT of one object is atomic, and nothing here assumes more.
Every failure becomes one of our errors with the key in it. s3fs and botocore retry what is worth a retry
(time-outs, 5xx, throttling) with exponential backoff and jitter before we see an error.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.resources
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from data_catalog.errors import (
    BadInput,
    CatalogError,
    CloudEdgeError,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RETRIES = {"max_attempts": 4, "mode": "standard"}
CALLS_AT_A_TIME = 8
KEYS_WORTH_A_LISTING = 8  # a folder also lists what was not asked for


class Store:
    """The objects of one bucket, by key."""

    def __init__(self, bucket: str) -> None:
        """Use the bucket; credentials and endpoint come from the `AWS_*` variables."""
        self.bucket = bucket

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a Dask worker by name; credentials never travel."""
        return (open_store, (self.bucket,))

    @cached_property
    def _fs(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            default_cache_type="none",
            config_kwargs={"retries": RETRIES, "connect_timeout": 5, "read_timeout": 60, "max_pool_connections": 32},
        )

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: there is no such object.
            StoreError: or a subclass, as `translated` says.
        """
        with translated(key, self.bucket):
            # in one request: s3fs would ask for the size first, to read large objects in parts
            return cast("bytes", self._fs.cat_file(f"{self.bucket}/{key}", max_concurrency=1))

    def get_start(self, key: str, size: int) -> bytes:
        """The first `size` bytes of the object, or all if it has fewer; raises as `get` does."""
        with translated(key, self.bucket):
            return cast("bytes", self._fs.cat_file(f"{self.bucket}/{key}", start=0, end=size))

    def put(self, key: str, data: bytes) -> None:
        """Write the object whole; raises as `translated` says."""
        with translated(key, self.bucket):
            self._fs.pipe_file(f"{self.bucket}/{key}", data)

    def put_file(self, key: str, path: Path) -> None:
        """Write a local file as an object, in parts when it is large."""
        with translated(key, self.bucket):
            self._fs.put_file(str(path), f"{self.bucket}/{key}")

    def get_file(self, key: str, path: Path) -> None:
        """Copy an object to a local file, streaming."""
        with translated(key, self.bucket):
            self._fs.get_file(f"{self.bucket}/{key}", str(path))

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        with translated(key, self.bucket):
            return bool(self._fs.exists(f"{self.bucket}/{key}"))

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix/`, sorted."""
        with translated(prefix, self.bucket):
            found = cast("list[str]", self._fs.find(f"{self.bucket}/{prefix}"))
        return sorted(key.removeprefix(f"{self.bucket}/") for key in found)

    def present(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that exist.

        Lists the keys' folders where that is far fewer calls than asking for each, else asks for each; several
        calls at a time, because each is mostly waiting.
        """
        folders = {key.rpartition("/")[0] for key in keys}
        with ThreadPoolExecutor(CALLS_AT_A_TIME, thread_name_prefix="present") as pool:
            if len(folders) * KEYS_WORTH_A_LISTING <= len(keys):
                return set(keys).intersection(chain.from_iterable(pool.map(self.keys, folders)))
            return {key for key, there in zip(keys, pool.map(self.exists, keys), strict=True) if there}

    def delete(self, key: str) -> None:
        """Remove the object; no error if it is not there."""
        with translated(key, self.bucket):
            if self._fs.exists(f"{self.bucket}/{key}"):
                self._fs.rm_file(f"{self.bucket}/{key}")

    def check(self) -> None:
        """Raise the right error if the bucket cannot be listed, read and written."""
        probe = "doctor/probe"
        with translated("", self.bucket):
            self._fs.ls(self.bucket)
        self.put(probe, b"probe")
        if self.get(probe) != b"probe":
            raise StoreError(f"the store at bucket {self.bucket!r} gave back other bytes than were written")
        self.delete(probe)


@lru_cache(maxsize=8)
def open_store(bucket: str | None = None) -> Store:
    """The store that the settings name; one client a process.

    Raises:
        StoreRefused: no bucket is named.
    """
    bucket = bucket or read_settings().bucket
    if not bucket:
        raise StoreRefused("no store is set; start one with `cloudedge up`, or set CLOUDEDGE_BUCKET and AWS_*")
    return Store(bucket)


@contextmanager
def translated(key: str, bucket: str) -> Iterator[None]:
    """Turn what s3fs and botocore raise into our errors, the object's key in the message.

    Raises:
        ObjectMissing, StoreRefused, StoreFull, StoreUnreachable or StoreError, with the cause kept.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    place = f"{bucket}/{key}" if key else f"bucket {bucket!r}"
    try:
        yield
    except CloudEdgeError:
        raise
    except FileNotFoundError as error:
        if not key or _error_code(error) == "NoSuchBucket":
            raise StoreRefused(f"the store has no bucket {bucket!r}; create it or correct CLOUDEDGE_BUCKET") from error
        raise ObjectMissing(f"{place} is not in the store; run the flow again to make it") from error
    except (PermissionError, NoCredentialsError) as error:
        raise StoreRefused(
            f"the store refused access to {place} ({_one_line(error)}); check AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY"
        ) from error
    except (BotoCoreError, ClientError, OSError) as error:
        text = _one_line(error)
        if getattr(error, "errno", None) == errno.ENOSPC or _is_full(text):
            raise StoreFull(f"no space left while writing {place} ({text}); free some and run again") from error
        if isinstance(error, ConnectionError | TimeoutError) or "connect" in text.lower() or "timeout" in text.lower():
            raise StoreUnreachable(
                f"the store gave no answer for {place} ({text}); check AWS_ENDPOINT_URL and that the server runs"
            ) from error
        raise StoreError(f"the store failed at {place}: {text}") from error


def _error_code(error: BaseException) -> str:
    """What the store itself called the failure; s3fs keeps botocore's error as the cause."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _is_full(text: str) -> bool:
    return any(
        sign in text.lower() for sign in ("storage full", "no space left", "storagefull", "quota", "minimum free drive")
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def local_copy(uri: str, folder: Path) -> Path:
    """A local file, or folder, with the content of a source.

    Args:
        uri: a path, `package://<module>/<file>` or any URL that fsspec knows.
        folder: where a remote file is copied to.

    Raises:
        CatalogError: the file does not exist or cannot be read.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        path = Path(uri).expanduser()
    elif scheme == "package":
        module, _, name = rest.partition("/")
        try:
            path = Path(str(importlib.resources.files(module).joinpath(name)))
        except (ModuleNotFoundError, ValueError) as error:
            raise CatalogError(
                f"{uri}: the package {module!r} is not installed; pip install 'cloudedge[local]'"
            ) from error
    else:
        path = folder / hashlib.sha256(uri.rpartition("/")[0].encode()).hexdigest()[:16] / Path(rest).name
        path.parent.mkdir(parents=True, exist_ok=True)
        import fsspec

        try:
            with fsspec.open(uri, "rb") as remote, path.open("wb") as local:
                shutil.copyfileobj(cast("IO[bytes]", remote), local, 1 << 20)
        except (OSError, ValueError, ImportError) as error:
            raise CatalogError(f"source {uri} cannot be read ({_one_line(error)}); check the URL") from error
    if not path.exists():
        raise CatalogError(f"source {uri} does not exist (looked at {path}); correct `uri` in the dataset's YAML")
    return path


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read in bounded memory.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({_one_line(error)}); check the file") from error
