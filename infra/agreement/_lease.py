"""A lease with a fencing token, over any register of `infra/agreement`.

Safety does not rest on clocks. Every write that a coordinator makes for what it coordinates is first *admitted*: a
compare-and-swap of the lease's record, which fails once there is another holder. So all admitted writes of all
holders stand in one line, that of `LeaseRecord.beat`, and along it the tokens only grow. A holder that was paused for
longer than its lease learns at its next admission that it is none any more, whatever it believed. (B. Lampson, How to
build a highly available system using consensus, 1996, section 5; M. Kleppmann, How to do distributed locking, 2016, for the
token.)

Clocks decide only when a silent holder is given up: after its record has not changed for `seconds` by the
waiting one's own clock, which need agree with no other. A clock that runs fast takes a lease early; its former holder then
stops, and nothing is mixed.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from data_catalog.agreement import LeaseRecord
from data_catalog.errors import CloudEdgeError, Conflict, CorruptObject, StoreError

if TYPE_CHECKING:
    from infra.agreement import Register

RENEWALS = 3  # in a lease
LOOKS = 10  # of one who waits, in a lease
TRIES = 4  # of a change that nobody else prevented


class Lease:
    """Who coordinates `name`; this process, if it gets it. Safe in threads."""

    def __init__(self, register: Register, name: str, seconds: float) -> None:
        """Nothing is read or written before `take`.

        Args:
            register: where the record is.
            name: of what is coordinated.
            seconds: without a sign of life after which another may take it.
        """
        self.register, self.name, self.seconds = register, name, seconds
        self.holder = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(4)}"
        self._record: LeaseRecord | None = None  # as this process wrote it last; None: it holds nothing
        self._version: str | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()

    @property
    def token(self) -> int:
        """That of this holder."""
        assert self._record
        return self._record.token

    def take(self) -> int:
        """Become the holder and stay it until `release`; the token.

        Waits for a holder's next sign of life, at most as long as its lease.

        Raises:
            Conflict: another holder is at work.
            StoreError: the register gave no answer.
        """
        found = self.register.read(self.name)
        before = self._read(found)
        if found and before and before.holder:
            self._wait(found, before)
        record = LeaseRecord(
            token=before.token + 1 if before else 1, beat=before.beat + 1 if before else 1, holder=self.holder,
            seconds=self.seconds, at=time.time(),
        )  # fmt: skip
        with self._lock:
            self._swap(record, found[1] if found else None)
            self._ended.clear()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return record.token

    def _wait(self, found: tuple[bytes, str], before: LeaseRecord) -> None:
        """Return when the holder was silent for its lease."""
        since = time.monotonic()
        while time.monotonic() - since < before.seconds:
            time.sleep(min(before.seconds / LOOKS, 1.0))
            if self.register.read(self.name) != found:
                raise Conflict(
                    f"{before.holder} coordinates {self.name} (token {before.token}); run again when it has ended"
                )

    def admit(self) -> int:
        """Put this process's next write into the line of all; its place there. Do it before each write.

        Raises:
            Conflict: another one is the holder now; nothing must be written.
            StoreError: the register gave no answer; nothing must be written.
        """
        with self._lock:
            before = self._record
            if not before:
                raise Conflict(f"{self.name} is coordinated by another now; what was computed is kept, run again")
            self._swap(before.model_copy(update={"beat": before.beat + 1, "at": time.time()}), self._version)
            return before.beat + 1

    def release(self) -> None:
        """Let the next one begin at once; if that fails, it waits until this lease has run out."""
        self._ended.set()
        with self._lock:
            before, self._record = self._record, None
            if before:
                free = before.model_copy(update={"holder": "", "beat": before.beat + 1, "at": time.time()})
                with suppress(CloudEdgeError):
                    self.register.swap(self.name, self._version, _bytes(free))

    def _renew(self) -> None:
        while not self._ended.wait(self.seconds / RENEWALS):
            try:
                self.admit()
            except Conflict:
                return
            except StoreError:  # the next one may pass; if none does, another one takes the lease
                continue

    def _swap(self, record: LeaseRecord, version: str | None) -> None:
        """Write the record, and find out what became of a change whose answer was lost."""
        for left in range(TRIES, 0, -1):
            try:
                self._version = self.register.swap(self.name, version, _bytes(record))
            except (Conflict, StoreError) as error:
                there = self.register.read(self.name)
                found = self._read(there)
                if there and found and found.holder == self.holder:  # an earlier try of ours did it
                    version, record = there[1], record.model_copy(update={"beat": found.beat + 1})
                elif (there[1] if there else None) != version:
                    self._record = None
                    who = found.holder if found and found.holder else "another"
                    raise Conflict(
                        f"{self.name} is coordinated by {who} now; what was computed is kept, run again"
                    ) from error
                if left == 1:
                    raise
            else:
                self._record = record
                return

    def _read(self, found: tuple[bytes, str] | None) -> LeaseRecord | None:
        try:
            return LeaseRecord.model_validate_json(found[0]) if found else None
        except ValueError as error:
            raise CorruptObject(
                f"the lease {self.name} is no lease; delete it where it is kept and run again"
            ) from error


def _bytes(record: LeaseRecord) -> bytes:
    return record.model_dump_json().encode()
