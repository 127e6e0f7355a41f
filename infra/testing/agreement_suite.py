"""What every way to agree of `infra/agreement` must keep: compare-and-swap, of several at once exactly one."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from data_catalog.errors import Conflict

if TYPE_CHECKING:
    from infra.agreement import Register

WRITERS, TIMES = 4, 10


def _name() -> str:
    return f"suite-{secrets.token_hex(8)}"


def _swaps(register: Register, name: str, version: str | None, value: bytes) -> bool:
    try:
        register.swap(name, version, value)
    except Conflict:
        return False
    return True


def check_what_is_not_there_is_none(register: Register) -> None:
    """Before the first write."""
    assert register.read(_name()) is None


def check_what_was_written_is_read(register: Register) -> None:
    """With the version that the write gave, whatever the bytes."""
    name, version = _name(), None
    for value in (b"1", b"", bytes(range(256)), b"1"):
        version = register.swap(name, version, value)
        assert register.read(name) == (value, version)


def check_a_first_write_is_refused_where_something_is(register: Register) -> None:
    """And leaves what is there."""
    name = _name()
    version = register.swap(name, None, b"first")
    assert not _swaps(register, name, None, b"second")
    assert register.read(name) == (b"first", version)


def check_a_write_over_another_version_is_refused(register: Register) -> None:
    """Over an earlier one, and over one of what is not there."""
    name = _name()
    first = register.swap(name, None, b"first")
    second = register.swap(name, first, b"second")
    assert first != second
    assert not _swaps(register, name, first, b"third")
    assert register.read(name) == (b"second", second)
    assert not _swaps(register, _name(), second, b"third")


def check_of_several_first_writes_one_succeeds(register: Register) -> None:
    """And it is the one that is read."""
    name = _name()
    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(lambda number: _swaps(register, name, None, f"of {number}".encode()), range(WRITERS)))
    assert won.count(True) == 1
    found = register.read(name)
    assert found
    assert found[0] == f"of {won.index(True)}".encode()


def check_no_addition_is_lost(register: Register) -> None:
    """Writers at the same time add to one number; each addition that succeeded is in it."""
    name = _name()
    register.swap(name, None, b"0 none")

    def add(writer: int) -> int:
        done = 0
        for time in range(TIMES):
            found = register.read(name)
            assert found
            number = int(found[0].split()[0]) + 1
            done += _swaps(register, name, found[1], f"{number} {writer}.{time}".encode())
        return done

    with ThreadPoolExecutor(WRITERS) as pool:
        added = sum(pool.map(add, range(WRITERS)))
    found = register.read(name)
    assert found
    assert int(found[0].split()[0]) == added
    assert added >= TIMES


CHECKS = (
    check_what_is_not_there_is_none,
    check_what_was_written_is_read,
    check_a_first_write_is_refused_where_something_is,
    check_a_write_over_another_version_is_refused,
    check_of_several_first_writes_one_succeeds,
    check_no_addition_is_lost,
)
