"""Objects in parts, and checked from end to end: only what failed goes over the link again.

An object of more than two parts is written by a multipart upload of parts side by side, and read in ranges side by
side. Every object notes the SHA-256 of its bytes when it is written (user metadata `sha256`), and what is read is
compared with it; objects of other writers, which note none, are not.

What is repeated where: the store's client repeats a request that failed (backoff with jitter, `infra/storage.py`),
and goes on with the reading of a body at the byte at which it broke off. What a call gave up on, the next call of the
same content takes up again: an upload at the parts that the store does not list yet, a file that is being
downloaded at the ranges that its journal does not name yet.

This module speaks S3 by the names of its operations and does not know who carries them out.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_catalog.errors import CorruptObject, StoreError

if TYPE_CHECKING:
    from pathlib import Path

PART = 16 << 20  # bytes; S3 wants at least 5 MiB, and a part that fails is sent again whole
AT_A_TIME = 4  # parts of one object
MOST_PARTS = 10_000  # of one upload, says S3
NOTED = "sha256"  # the key of the user metadata

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds
OFTEN_WRITTEN = 1 << 20  # bytes at most of objects that are written over: mailboxes, profiles, signs of life
READINGS, BETWEEN_READINGS = 5, 0.05  # of an object whose bytes and digest do not fit; seconds

Call = Callable[..., dict[str, Any]]  # (operation, key, **arguments) -> the answer, as botocore has it
Cut = Callable[[int, int], bytes]  # (first byte, length) -> these bytes of what is uploaded


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of an object's bytes, and what the answer said of the whole."""

    data: bytes
    size: int  # of the whole object
    digest: str  # SHA-256 of the whole, as its writer noted it; empty: it did not
    written: str  # the store's own mark of this object, where the writer noted no digest

    @property
    def version(self) -> str:
        """The same for all pieces of one content; one line of text."""
        return f"{self.size} {self.digest or self.written}"


Read = Callable[[str, int, int], Piece]  # (key, first byte, most bytes)


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: exponential, with full jitter.

    M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures))  # noqa: S311  no secret


def upload(call: Call, key: str, cut: Cut, size: int, digest: str, begun: str, keep: Callable[[str], None]) -> None:
    """Write an object in parts, without those that the store already has of an earlier try.

    Args:
        call: carries out an operation of S3.
        key: of the object.
        cut: gives the bytes of a part; called from several threads.
        size: of the object in bytes.
        digest: SHA-256 of the object, for its metadata.
        begun: the upload id that `keep` was given when the same content was tried before; empty: it was not.
        keep: told the upload id before the first part is sent.

    Raises:
        OSError: as `call`; the parts that were sent stay, for the next try.
    """
    length = max(PART, -(-size // MOST_PARTS))
    there = _parts(call, key, begun) if begun else None
    if there is None:
        begun = call("create_multipart_upload", key, Metadata={NOTED: digest})["UploadId"]
        keep(begun)
        there = {}

    def send(number: int) -> dict[str, Any]:
        tag = there.get(number) or call(
            "upload_part", key, UploadId=begun, PartNumber=number, Body=cut((number - 1) * length, length)
        ).get("ETag")
        return {"PartNumber": number, "ETag": tag}

    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="upload") as pool:
        parts = list(pool.map(send, range(1, -(-size // length) + 1)))
    try:
        call("complete_multipart_upload", key, UploadId=begun, MultipartUpload={"Parts": parts})
    except FileNotFoundError:  # no such upload: it was completed, but the answer was lost and the request repeated
        found = call("head_object", key)
        if found["ContentLength"] != size or found.get("Metadata", {}).get(NOTED, digest) != digest:
            raise


def _parts(call: Call, key: str, upload_id: str) -> dict[int, str] | None:
    """The tags of the parts that the store has, by number; None if it does not know the upload any more."""
    found: dict[int, str] = {}
    while True:
        try:
            page = call("list_parts", key, UploadId=upload_id, PartNumberMarker=max(found, default=0))
        except FileNotFoundError:
            return None
        found |= {part["PartNumber"]: part["ETag"] for part in page.get("Parts", ())}
        if not page.get("IsTruncated"):
            return found


class Rewritten(StoreError):
    """Another object stands under the key than when the reading began."""


def download(read: Read, key: str) -> bytes:
    """An object's bytes, verified.

    A byte that flipped on the way does not flip again. And some stores show a reader old and new mixed while an object is written
    over: the size of one, bytes of the other, no metadata. So what does not fit is read again, and what has no digest until
    it reads the same twice.

    Args:
        read: reads a range; called from several threads for a large object.
        key: of the object.

    Raises:
        CorruptObject: not what was noted when it was written, time and again; names the object and the remedy.
        Rewritten, OSError: as `read`.
    """
    before = None
    for reading in range(1, READINGS + 1):
        try:
            data, digest = _whole(read, key)
        except Rewritten:
            if reading == READINGS:
                raise
            continue
        if hashlib.sha256(data).hexdigest() == digest or (not digest and data == before):
            return data
        if len(data) > OFTEN_WRITTEN and reading > 1:
            break
        before = data
        time.sleep(0.0 if reading == 1 else BETWEEN_READINGS)
    raise _corrupt(key)


def _whole(read: Read, key: str) -> tuple[bytes, str]:
    while True:
        first = read(key, 0, PART)
        if first.size <= PART:
            return first.data, first.digest
        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="download") as pool:
            pieces = [first, *pool.map(lambda at: read(key, at, PART), range(PART, first.size, PART))]
        if {piece.version for piece in pieces} == {first.version}:  # else it was written anew meanwhile
            return b"".join(piece.data for piece in pieces), first.digest


def download_file(read: Read, key: str, path: Path) -> None:
    """Copy an object to a file, which appears when it is whole and verified.

    Until then its bytes are in `<path>.part`, and `<path>.ranges` is the journal: the object's version, then a line
    for each range that is written. A later call goes on from there, if the object is still the same. One writer a path.

    Args:
        read: reads a range; called from several threads.
        key: of the object.
        path: of the file; its folder exists.

    Raises:
        CorruptObject, OSError: as `download`; or the disk's own error.
    """
    part, journal = path.with_name(path.name + ".part"), path.with_name(path.name + ".ranges")
    for last in (False, True):
        try:
            digest = _fill(read, key, part, journal)
        except Rewritten:
            if last:
                raise
            continue
        if whole := digest in ("", _digest(part)):
            part.rename(path)
        else:
            part.unlink()
        journal.unlink()
        if whole:
            return
    raise _corrupt(key)


def _fill(read: Read, key: str, part: Path, journal: Path) -> str:
    """Read into `part` the ranges that the journal does not name; the digest that it must have."""
    lines = journal.read_text().rpartition("\n")[0].splitlines() if journal.exists() and part.exists() else []
    head = read(key, 0, 1 if lines else PART)
    # without a digest nobody would notice that a crash took what the journal promises
    if not lines or not head.digest or lines[0] != head.version:
        head = head if not lines else read(key, 0, PART)
        lines = []
        part.write_bytes(head.data)
        journal.write_text(f"{head.version}\n0\n")
    done = {0, *(int(line) for line in lines[1:])}
    with part.open("r+b") as file, journal.open("a", buffering=1) as log:

        def fetch(at: int) -> None:
            piece = read(key, at, PART)
            if piece.version != head.version:
                raise Rewritten(f"{key} was written anew while it was read; run again")
            os.pwrite(file.fileno(), piece.data, at)
            log.write(f"{at}\n")

        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="download") as pool:
            list(pool.map(fetch, [at for at in range(0, head.size, PART) if at not in done]))
    return head.digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _corrupt(key: str) -> CorruptObject:
    return CorruptObject(
        f"{key} is corrupt (its content has another digest than was noted when it was written); delete that object"
        " and run again, it will be made anew"
    )
