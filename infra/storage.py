"""The only module that knows fsspec and s3fs: objects in the bucket, and files that sources name.

A `Store` reads and writes whole objects, each with the digest of its bytes beside it; S3's PUT of one object is
atomic, and nothing here assumes more. Every failure becomes one of our errors with the key in it.

botocore repeats a request that is worth it (no connection, no answer, 5xx, throttling) with exponential backoff and
jitter before we see an error. Here is what it leaves: a body that breaks off is read on from where it broke off, a
connection that takes nothing any more is given up, and a body that arrived damaged is sent again. Large objects go in
parts (`infra/transfer.py`).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import importlib.resources
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from data_catalog.errors import (
    BadInput,
    CatalogError,
    CloudEdgeError,
    Conflict,
    CorruptObject,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from infra import transfer
from infra.security.presigning import Signer
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_catalog.nouns import Noun

Read = TypeVar("Read", bound="Noun")
ATTEMPTS = 4
STALLED_SECONDS = 60.0  # without a byte read, or a byte sent and acknowledged
CHUNK = 1 << 20
WORTH_A_REQUEST = 64 << 10  # bytes before a body broke off again
DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"}  # what arrived is not what was signed
CONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
NO_SUCH_RANGE = {"InvalidRange", "416"}
CALLS_AT_A_TIME = 8
KEYS_WORTH_A_LISTING = 8  # a folder also lists what was not asked for
_stand_ins: dict[str, Store] = {}  # by bucket


class Store:
    """The objects of one bucket, by key."""

    waited_seconds = 0.0  # that reads waited for objects which others were still sending; see `infra/premises.py`

    def __init__(self, bucket: str) -> None:
        """Use the bucket; credentials and endpoint come from the `AWS_*` variables."""
        self.bucket = bucket
        self._begun: dict[tuple[str, str], str] = {}  # by key and digest: uploads that failed, to go on with

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a Dask worker by name; credentials never travel."""
        return (open_store, (self.bucket,))

    @cached_property
    def _fs(self) -> Any:
        import s3fs
        from botocore.handlers import add_expect_header

        fs = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            default_cache_type="none",
            config_kwargs={
                "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
                "connect_timeout": 5,
                "read_timeout": STALLED_SECONDS,
                "max_pool_connections": 32,
                "connector_args": {"socket_factory": _socket},
            },
        )
        fs.retries = 1  # of its own, around botocore's
        fs.connect()
        # a body that waits to be welcome costs every write the link's latency, which on a busy link is half a second
        fs.s3.meta.events.unregister("before-call.s3", add_expect_header)
        return fs

    def get(self, key: str) -> bytes:
        """The object's bytes, compared with the digest that was noted when it was written.

        Raises:
            ObjectMissing: there is no such object.
            CorruptObject: the digest is another.
            StoreError: or a subclass, as `translated` says.
        """
        with translated(key, self.bucket):
            return transfer.download(self._read, key)

    def get_start(self, key: str, size: int) -> bytes:
        """The first `size` bytes of the object, or all if it has fewer; not compared with its digest; raises as `get`."""
        with translated(key, self.bucket):
            return self._read(key, 0, size).data

    def get_file(self, key: str, path: Path) -> None:
        """Copy an object to a local file in bounded memory; raises as `get`.

        The file appears when it is whole. What failed goes on at the next call from what `<path>.part` has.
        """
        with translated(key, self.bucket):
            transfer.download_file(self._read, key, path)

    def put(self, key: str, data: bytes) -> None:
        """Write the object whole, its digest beside it; raises as `translated` says."""
        self._put(key, lambda first, length: data[first : first + length], len(data), hashlib.sha256(data).hexdigest())

    def put_new(self, key: str, data: bytes) -> None:
        """Write a small object that is not there yet.

        Looks first, then writes on the condition that there is still none. A store that ignores the condition, as
        some do without a word, leaves a moment in which another's object may be written over.

        Raises:
            Conflict: it is there.
        """
        taken = Conflict(f"{self.bucket}/{key} is in the store already, and is never written over; run again")
        if self.exists(key):
            raise taken
        digest = hashlib.sha256(data).hexdigest()
        try:
            with translated(key, self.bucket):
                self._call("put_object", key, Body=data, Metadata={transfer.NOTED: digest}, IfNoneMatch="*")
        except StoreError as error:
            if error.__cause__ is None or _error_code(error.__cause__) not in CONDITION_FAILED:
                raise
            raise taken from error

    def get_version(self, key: str) -> tuple[bytes, str]:
        """A small object and its ETag, for `put_if`; raises as `get`."""
        with translated(key, self.bucket):
            piece = self._read(key, 0, transfer.PART)
        return piece.data, piece.written

    def put_if(self, key: str, data: bytes, version: str | None) -> str:
        """Write a small object if the one of that ETag still stands there, or None if none does; the new ETag.

        A store may ignore the condition: `infra/agreement/s3.py` finds out.

        Raises:
            Conflict: it does not.
        """
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        noted = {transfer.NOTED: hashlib.sha256(data).hexdigest()}
        try:
            with translated(key, self.bucket):
                return str(self._call("put_object", key, Body=data, Metadata=noted, **condition)["ETag"])
        except StoreError as error:
            missing = isinstance(error, ObjectMissing)  # what should have matched
            if not missing and (error.__cause__ is None or _error_code(error.__cause__) not in CONDITION_FAILED):
                raise
            raise Conflict(f"{self.bucket}/{key} was changed by another; run again") from error

    def put_file(self, key: str, path: Path) -> None:
        """Write a local file as an object, in bounded memory; raises as `put`."""

        def cut(first: int, length: int) -> bytes:
            with path.open("rb") as file:
                file.seek(first)
                return file.read(length)

        digest = file_digest(path)
        self._put(key, cut, path.stat().st_size, digest, path.with_name(path.name + ".upload"))

    def _put(self, key: str, cut: transfer.Cut, size: int, digest: str, kept: Path | None = None) -> None:
        """Write an object: small ones at once, large ones in parts; what an earlier try sent of these is not sent again.

        The id of an upload that failed is remembered by this store, and for a file in `kept` too.
        """
        with translated(key, self.bucket):
            if size <= 2 * transfer.PART:
                self._call("put_object", key, Body=cut(0, size), Metadata={transfer.NOTED: digest})
                return
            begun = self._begun.pop((key, digest), "")  # taken: of two writers of one content each has its own
            if not begun and kept and kept.exists():
                of, _, begun = kept.read_text().partition(" ")
                begun = begun if of == digest else ""

            def keep(upload_id: str) -> None:
                nonlocal begun
                begun = upload_id
                if kept:
                    kept.write_text(f"{digest} {upload_id}")

            try:
                transfer.upload(self._call, key, cut, size, digest, begun, keep)
            except BaseException:
                self._begun[key, digest] = begun
                raise
            if kept:
                kept.unlink(missing_ok=True)

    def _call(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        """The answer of an operation of S3 on an object; sent again if the body arrived damaged."""
        for failures in range(1, ATTEMPTS + 1):
            try:
                return cast("dict[str, Any]", self._fs.call_s3(operation, Bucket=self.bucket, Key=key, **arguments))
            except OSError as error:
                if failures == ATTEMPTS or _error_code(error) not in DAMAGED:
                    raise
                time.sleep(transfer.pause(failures))
        raise AssertionError

    def _read(self, key: str, first: int, most: int) -> transfer.Piece:
        """At most `most` bytes of an object; those that arrived before a failure are not asked for again."""
        from fsspec.asyn import sync

        return cast("transfer.Piece", sync(self._fs.loop, self._receive, key, first, most))

    async def _receive(self, key: str, first: int, most: int) -> transfer.Piece:
        from botocore.exceptions import IncompleteReadError
        from s3fs.core import S3_RETRYABLE_ERRORS

        chunks: list[bytes] = []
        have, failures, version = 0, 0, ""
        while True:
            try:
                answer = await self._ask(key, first + have, most - have)
            except OSError as error:
                if have and _error_code(error) in NO_SUCH_RANGE:
                    raise transfer.Rewritten(f"{self.bucket}/{key} is shorter than when its reading began") from error
                raise
            size = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
            digest = answer.get("Metadata", {}).get(transfer.NOTED, "")
            written = answer.get("ETag") or str(answer.get("LastModified"))
            piece = transfer.Piece(b"", size, digest, written)
            if version not in ("", piece.version):
                raise transfer.Rewritten(f"{self.bucket}/{key} was written anew while it was read; run again")
            version, before = piece.version, have
            try:
                async with answer["Body"] as body:
                    while chunk := await body.read(CHUNK):
                        chunks.append(chunk)
                        have += len(chunk)
                return transfer.Piece(b"".join(chunks), size, digest, written)
            except (*S3_RETRYABLE_ERRORS, IncompleteReadError) as error:
                if have == min(most, size - first):
                    return transfer.Piece(b"".join(chunks), size, digest, written)
                failures = failures + 1 if have - before < WORTH_A_REQUEST else 1
                if failures == ATTEMPTS:
                    raise ConnectionError(
                        f"its content broke off at byte {first + have}: {_one_line(error)}"
                    ) from error
            await asyncio.sleep(transfer.pause(failures))

    async def _ask(self, key: str, first: int, most: int) -> dict[str, Any]:
        """The store's answer to a GET of a range, or of an empty object."""
        where = {"Bucket": self.bucket, "Key": key}
        try:
            answer = await self._fs._call_s3("get_object", **where, Range=f"bytes={first}-{first + most - 1}")
        except OSError as error:
            if first or _error_code(error) not in NO_SUCH_RANGE:
                raise
            answer = await self._fs._call_s3("get_object", **where)  # an empty object has no ranges
        return cast("dict[str, Any]", answer)

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        try:  # s3fs would also list what lies under the key, as if it might be a folder
            with translated(key, self.bucket):
                self._call("head_object", key)
        except ObjectMissing:
            return False
        return True

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

    def size(self, key: str) -> int:
        """Bytes of the object; raises as `get`."""
        with translated(key, self.bucket):
            return int(self._fs.info(f"{self.bucket}/{key}")["size"])

    def bring(self, key: str) -> None:
        """Have an object where everybody can read it: there it lies, unless a site keeps it on its premises."""

    def delete(self, key: str) -> None:
        """Remove the object; no error if it is not there."""
        with suppress(ObjectMissing), translated(key, self.bucket):
            self._call("delete_object", key)

    def copy(self, key: str, to: str) -> None:
        """Write the object under another key too, in the store, with what was noted beside it; raises as `get`."""
        with translated(key, self.bucket):
            self._call("copy_object", to, CopySource={"Bucket": self.bucket, "Key": key})

    def signer(self) -> Signer:
        """Who signs access to single objects: this process's own credentials, for the address that sites reach.

        Raises:
            StoreRefused: this process has no credentials.
        """
        from botocore.session import get_session

        session, found = get_session(), read_settings()
        credentials = session.get_credentials()
        if credentials is None:
            raise StoreRefused(
                "no credentials to sign a site's access with; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        region = session.get_config_variable("region") or "us-east-1"
        endpoint = found.public_endpoint_url or found.endpoint_url
        url = (
            f"{endpoint.rstrip('/')}/{self.bucket}" if endpoint else f"https://{self.bucket}.s3.{region}.amazonaws.com"
        )
        frozen = credentials.get_frozen_credentials()
        return Signer(self.bucket, url, region, frozen.access_key, frozen.secret_key, frozen.token or "")

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
    return _stand_ins.get(bucket) or Store(bucket)


def stand_in(store: Store) -> None:
    """Let `open_store` give this one for its bucket, in this process: what a site's own process has instead."""
    _stand_ins[store.bucket] = store
    open_store.cache_clear()


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A TCP socket that fails when what was sent is not taken for too long: reading has a time-out, sending has none."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED_SECONDS * 1000))
    return made


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
        if _error_code(error) == "NoSuchUpload":
            raise StoreError(f"the store dropped the unfinished upload of {place}; run again") from error
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
        uri: a path, `package://<module>/<file>`, `generated://<generator>/<file>?rows=..&seed=..` or any URL that fsspec knows.
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
    elif scheme == "generated":
        from infra.generators import generate

        path = generate(uri, folder / hashlib.sha256(uri.encode()).hexdigest()[:16])
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


def read_noun(store: Store, key: str, noun: type[Read], what: str) -> Read | None:
    """The noun of that key, or None if there is no such object.

    Args:
        store: where it is.
        key: of the object.
        noun: that it holds as JSON.
        what: the object is not, for the error: "not a profile".

    Raises:
        CorruptObject: the object is something else.
    """
    try:
        return noun.model_validate_json(store.get(key))
    except ObjectMissing:
        return None
    except ValueError as error:
        raise CorruptObject(f"{key} is {what}; delete that object and run again") from error
