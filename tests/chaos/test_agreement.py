"""Two real coordinators, one lease: paused for longer than it, killed, and the history of all their writes checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.storage import open_store
from tests.agreement import conditional_s3, etcd
from tests.homes import environment, wait_for

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).parents[2]
LEASE = "1"
WRITES = 3  # by which a holder has shown that it is at work


def read(path: Path) -> list[SimpleNamespace]:
    """The history so far, as it was noted."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last one may be cut short by a kill
    return [SimpleNamespace(**json.loads(line)) for line in lines]


def check(history: list[SimpleNamespace]) -> None:
    """All writes stand in one line in which tokens only grow, and which agrees with the time of day."""
    line = sorted(history, key=lambda write: write.beat)
    assert len({write.beat for write in line}) == len(line), "two writes were admitted to one place"
    tokens = [write.token for write in line]
    assert tokens == sorted(tokens), "writes of two holders are mixed"
    assert len({(write.token, write.pid) for write in line}) == len(set(tokens)), "one token had two holders"
    latest = 0.0
    for write in line:
        assert latest <= write.admitted, "a write was admitted before one that stands ahead of it began"
        latest = max(latest, write.began)
    assert len({write.key for write in line}) == len(line), "one object was written twice"


def at_work(path: Path, but: int = 0) -> int:
    """The process that has made several writes since now, not `but`."""
    seen = len(read(path))

    def holder() -> int:
        new = [write.pid for write in read(path)[seen:] if write.pid != but]
        return new[-1] if len(new) >= WRITES else 0

    return int(wait_for("a coordinator at work", holder, 30))


def play(variables: dict[str, str], folder: Path) -> list[SimpleNamespace]:
    """Stop each holder until the other is at work and let it go on, then kill one; the history."""
    path = folder / "history.jsonl"
    env = environment(
        folder, **variables, CLOUDEDGE_COORDINATORS="2", CLOUDEDGE_LEASE_SECONDS=LEASE, PYTHONPATH=str(ROOT)
    )
    command = [sys.executable, str(ROOT / "tests" / "coordinator.py"), str(path)]
    with (folder / "coordinators.log").open("wb") as log:
        started = [subprocess.Popen(command, env=env, stdout=log, stderr=log) for _ in range(2)]
    try:
        holder = at_work(path)
        for _ in range(2):
            os.kill(holder, signal.SIGSTOP)
            other = at_work(path, but=holder)
            os.kill(holder, signal.SIGCONT)  # it believes that it still holds the lease
            assert at_work(path, but=holder) == other, "the former holder must not come back while the other is alive"
            holder = other
        os.kill(holder, signal.SIGKILL)
        at_work(path, but=holder)
    finally:
        for process in started:
            process.kill()
            process.wait()
    text = (folder / "coordinators.log").read_text()
    assert "Traceback" not in text, text[-2000:]
    return read(path)


def check_objects(history: list[SimpleNamespace]) -> None:
    """What each write put is there as it was put: nobody wrote over it, early or late."""
    store = open_store()
    for write in history:
        assert store.get(write.key).decode() == write.text


def test_over_conditional_writes_no_two_holders_writes_are_mixed(tmp_path, monkeypatch):
    with conditional_s3(tmp_path) as variables:
        history = play(variables | {"CLOUDEDGE_AGREEMENT": "s3"}, tmp_path)
        check(history)
        assert {write.token for write in history} >= {1, 2, 3, 4}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        open_store.cache_clear()
        check_objects(history)
        open_store.cache_clear()


def test_over_etcd_with_a_store_that_ignores_conditions(up_store, up_variables, tmp_path):
    with etcd(tmp_path) as url:
        history = play(up_variables | {"CLOUDEDGE_HOME": str(tmp_path), "CLOUDEDGE_ETCD_URL": url}, tmp_path)
    check(history)
    assert {write.token for write in history} >= {1, 2, 3, 4}
    check_objects(history)


def test_the_checker_sees_mixed_writes():
    def write(beat: int, token: int, at: float, pid: int = 1) -> SimpleNamespace:
        return SimpleNamespace(beat=beat, token=token, pid=pid, began=at, admitted=at + 0.1, key=f"{beat}-{at}")

    good = [write(1, 1, 1), write(2, 1, 2), write(3, 2, 3, 2)]
    check(good)
    for wrong in (write(4, 1, 4), write(3, 3, 4), write(4, 2, 4), write(4, 2, 0, 2), write(4, 2, 4, 3)):
        with pytest.raises(AssertionError):
            check([*good, wrong])
    with pytest.raises(AssertionError):
        check([*good, write(4, 2, 4, 2), write(4, 2, 5, 2)])
