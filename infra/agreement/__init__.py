"""Agreement between coordinators: a register that a system with consensus inside keeps. A module here is a way to one.

The contract: `connect(settings)` gives a register, or says in one line why there is none. A register keeps small values by
name, each with a version. `swap` writes a value if the version is still the one that was read, and else raises
`Conflict`: of several at once exactly one succeeds, and who reads afterwards gets its value or a later one
(linearisable). That is compare-and-swap, with which any number of processes can agree (M. Herlihy, Wait-free
synchronization, 1991). The lease in `infra/agreement/_lease.py` is built on it, once for all ways; whoever coordinates uses
`infra/coordination.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    from infra.settings import Settings


class Register(Protocol):
    """Small values by name, that change by compare-and-swap."""

    def read(self, name: str) -> tuple[bytes, str] | None:
        """The value and its version; None if there is none yet."""
        ...

    def swap(self, name: str, version: str | None, value: bytes) -> str:
        """Write a value where the one of `version` stands, or None where none does; the new version.

        Raises:
            Conflict: another one stands there.
            StoreError: no answer; it may have been written or not.
        """
        ...


class Way(Protocol):
    """What a module of agreement offers."""

    def connect(self, settings: Settings) -> Register:
        """A register that keeps the contract.

        Raises:
            SettingError: there is none with these settings; says what to set.
            StoreError: what they name gave no answer.
        """
        ...


AGREEMENTS: Registry[Way] = Registry(__name__, "way to agree")
