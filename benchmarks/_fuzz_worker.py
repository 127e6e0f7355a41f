"""One process of `benchmarks.fuzz`: makes a malformed input, reads it under a memory limit, and judges the end."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._fuzz_inputs import Target, damaged, traps
from data_catalog.errors import CloudEdgeError
from infra import shards
from infra.codecs import CODECS
from infra.readers import READERS, accepted

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from data_catalog.nouns import Schema

HEADROOM = 512 << 20  # bytes of private memory beyond what the process has when it begins


def serve(connection: Connection, folder: Path, made: list[Target], seed: int, limit: bool = True) -> None:
    """Judge the inputs whose numbers come over the connection, until it is closed.

    Args:
        connection: gives numbers, takes `(number, outcome, detail)`.
        folder: for the inputs.
        made: the valid files.
        seed: of all inputs.
        limit: whether to hold this process to `HEADROOM`.
    """
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  what libraries warn of
    judge = Judge(folder, made, seed)
    if limit:
        most = _private_bytes() + HEADROOM
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    connection.send("ready")
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        connection.send((number, *judge(number)))


def _private_bytes() -> int:
    """What RLIMIT_DATA counts of this process: its private writable memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024


class Judge:
    """Makes the n-th input of a seed and says how reading it ended."""

    def __init__(self, folder: Path, made: list[Target], seed: int) -> None:
        """Read every valid file once, so that what differs can be seen, and all plug-ins are loaded."""
        self._folder, self._made, self._seed, self._traps = folder, made, seed, traps()
        self._bytes = [(target.path / target.damage).read_bytes() for target in made]
        self._plain = (made[0].path.parents[2] / "plain").read_bytes()
        self._unpacked_truth = {  # not the plain bytes, where a codec is lossy
            target.plug_in: CODECS.get(target.plug_in).decompress(data, len(self._plain))
            for target, data in zip(made, self._bytes, strict=True)
            if target.kind == "codec"
        }
        self._truth = [
            None if target.kind == "codec" else list(_rows(target.plug_in, target.path, target.record)[0])
            for target in made
        ]

    def __call__(self, number: int) -> tuple[str, str]:
        """The outcome, and what ended how."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if number < len(self._traps):
            trap = self._traps[number]
            name = f"{trap.plug_in}: {trap.name}"
            try:
                trap.write(self._folder)
            except MemoryError:
                return "broken", f"{name}: the fuzzer has no memory to make it"
            path = next(self._folder.iterdir())
            return _ended(name, lambda: self._trapped(trap.plug_in, path, trap.record))
        rng = np.random.default_rng([self._seed, number])
        which = number % len(self._made)
        target = self._made[which]
        others = [data for data, other in zip(self._bytes, self._made, strict=True) if other.plug_in != target.plug_in]
        kind, data, in_place = damaged(self._bytes[which], rng, others)
        if data == self._bytes[which]:
            data, in_place = data + b"\0", False
        name = f"{target.name}: {kind}"
        if target.kind == "codec":
            return _ended(name, lambda: self._unpacked(target, data))
        return _ended(name, lambda: self._read(which, data, in_place))

    def _trapped(self, plug_in: str, path: Path, record: Schema) -> str:
        _, rejected = _rows(plug_in, path, record, most=0)
        return "quarantined" if rejected else "silent"

    def _unpacked(self, target: Target, data: bytes) -> str:
        truth, size = self._unpacked_truth[target.plug_in], len(self._plain)
        found = shards.unpack(data, target.plug_in, size, shards.digest(truth), "datasets/d/shards/s")
        return "unchanged" if found == truth else "silent"

    def _read(self, which: int, data: bytes, in_place: bool) -> str:
        target, truth = self._made[which], self._truth[which]
        source = target.path.parent if target.path.is_file() else target.path
        path = self._folder / "in"
        if target.path.is_dir():
            shutil.copytree(source, path)
            (path / target.damage).write_bytes(data)
        else:
            path.mkdir()
            for beside in source.iterdir():  # labels
                if beside.name.startswith((target.path.stem, "x.labels", target.path.name)):
                    shutil.copy(beside, path / beside.name)
            path /= target.path.name
            path.write_bytes(data)
        rows, rejected = _rows(target.plug_in, path, target.record, most=10 * len(truth or ()))
        if rows == truth:
            return "unchanged"
        if (
            all(row in {None, true} for row, true in zip(rows, truth or (), strict=False))
            and rejected
            and len(rows) == len(truth or ())
        ):
            return "quarantined"
        before = self._bytes[which]
        changed = [i for i, (old, new) in enumerate(zip(before, data, strict=False)) if old != new]
        guarded = target.guarded is None or (
            in_place and all(any(first <= i < end for first, end in target.guarded) for i in changed)
        )
        whole_records = target.plug_in == "tfrecord" and set(rows) - {None} <= set(truth or [])
        if guarded and not whole_records:
            return "silent"
        return "quarantined" if rejected else "undetectable"


def _rows(plug_in: str, path: Path, record: Any, most: int = 1 << 30) -> tuple[list[tuple[bytes, str] | None], int]:
    """What a reader makes of a file: bytes and label of each record, None where it is rejected; and how many are."""
    rows: list[tuple[bytes, str] | None] = []
    rejected = 0
    for block in READERS.get(plug_in).read(path, record, 7):
        rejected += len(block.rejected)
        names = [""] * len(block.x) if block.labels is None else block.labels.tolist()
        for good, x, label in zip(accepted(block), block.x, names, strict=True):
            if len(rows) < most:
                rows.append((x.tobytes(), label) if good else None)
    return rows, rejected


def _ended(name: str, reading: Any) -> tuple[str, str]:
    """How a call ended: what it says, or an error of ours in one line, or anything else."""
    try:
        return reading(), name
    except CloudEdgeError as error:
        cause: BaseException | None = error
        while cause:
            if isinstance(cause, MemoryError):
                return "over_memory", f"{name}: {error}"
            cause = cause.__cause__
        lines = len(str(error).splitlines())
        return ("refused" if lines == 1 and len(str(error)) < 1000 else "traceback"), f"{name}: {error}"
    except MemoryError as error:
        return "over_memory", f"{name}: {error}"
    except Exception as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{name}: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
