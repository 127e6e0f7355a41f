"""A job over real processes, any of which may die, stop or be cut off while it runs; and what came of the rows.

`ward-1` is a process behind a link, whose shards stay on its disk. `ward-2` and the cloud answer on a Dask cluster of two
workers. The store and Prefect's server are held by `cloudedge up`, which starts again what ends. A round is one run from an
empty ledger, in which one thing befalls one of them at a random moment; whoever started it starts it again. When the run
has ended, its rows are compared with those of a run that nothing befell.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from infra import settings
from infra.emulation.world import Emulated, Spec
from infra.settings import Settings
from infra.stack import servers
from infra.storage import Store, open_store
from tests.homes import MANY_SHARDS, QUICK_MODEL, Home, environment, wait_for

ROOT = Path(__file__).parents[1]
KINDS = (
    "kill coordinator", "stop coordinator", "kill site", "stop site", "kill dask worker", "stop dask worker",
    "kill s3", "stop s3", "kill prefect", "stop prefect", "cut link",
)  # fmt: skip
VICTIMS = tuple(dict.fromkeys(kind.partition(" ")[2] for kind in KINDS))
MOST = 3  # times as many moments as are to strike, at most
LONGEST = 3.0  # seconds that a process is stopped or a link cut, or a killed site is away
RUN_SECONDS = 240.0
AGAIN = 4  # times that a run which a fault ended is run again
DATASET = "struck"
RUN = ("run", "--json", "--dataset", DATASET, "--model", "quick")
SITES = {
    "ward-1": "tier: edge\nthreads: 1\ndispatch: mailbox\n",
    "ward-2": "tier: edge\nthreads: 2\nshards_on_premises: false\n",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What befalls whom, when (as a share of an undisturbed run's time), and for how many seconds."""

    kind: str
    at: float
    lasts: float

    @property
    def victim(self) -> str:
        """`site` of `kill site`."""
        return self.kind.partition(" ")[2]


def moments(count: int, seed: int) -> list[Moment]:
    """Random moments; each kind as often as any other, give or take one."""
    draw = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += draw.sample(KINDS, len(KINDS))
    return [Moment(kind, draw.random(), draw.uniform(0.2, LONGEST)) for kind in kinds[:count]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to; rows are compared with the undisturbed run's."""

    moments: tuple[Moment, ...]
    struck: tuple[bool, ...]  # of each, whether the run was still under way
    seconds: float  # over all, until a run was complete
    errors: tuple[str, ...]  # what the runs before it said at their end
    lost: int
    repeated: int
    differing: int
    recomputed: int  # shards that were computed more than once
    recomputed_by_worker: int  # at most, of those that one worker had computed


@dataclass(slots=True)
class World:
    """The processes, and the rows of an undisturbed run."""

    home: Home
    store: Store
    site: Emulated
    notes: Path
    dask: subprocess.Popen[bytes]
    variables: dict[str, str]
    undisturbed: pa.Table = field(default_factory=lambda: pa.table({}))
    seconds: float = 0.0

    def coordinator(self) -> subprocess.Popen[str]:
        """A run of the job."""
        return self.home.start(*RUN, **self.variables)

    def forget(self) -> None:
        """Empty the ledger; shards and models stay where they are."""
        for prefix in ("results", "escalations"):
            for key in self.store.keys(prefix):
                self.store.delete(key)
        self.notes.unlink(missing_ok=True)

    def workers(self) -> list[psutil.Process]:
        """Dask's, that compute."""
        family = psutil.Process(self.dask.pid).children(recursive=True)
        return [
            each
            for each in family
            if "multiprocessing" in " ".join(each.cmdline()) and "spawn_main" in " ".join(each.cmdline())
        ]

    def server(self, name: str) -> psutil.Process | None:
        """The store's process or Prefect's."""
        said = {"s3": "juicefs gateway", "prefect": "prefect_app"}[name]
        return next((each for each in self.home.servers() if said in " ".join(each.cmdline())), None)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start everything, prepare the data and the model, and do the job once undisturbed.

    Args:
        folder: for the homes of all.
    """
    catalog = folder / "catalog"
    entries = {("models", "quick"): QUICK_MODEL, ("datasets", DATASET): MANY_SHARDS.replace("edge-", "ward-")}
    for (kind, name), text in (entries | {("sites", name): text for name, text in SITES.items()}).items():
        (catalog / kind).mkdir(parents=True, exist_ok=True)
        (catalog / kind / f"{name}.yaml").write_text(text)
    home, notes = Home(folder / "home", {"CLOUDEDGE_CATALOG": str(catalog)}), folder / "notes.jsonl"
    noted = {"NOTED": str(notes), "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        home.call("up")
        stack.callback(home.call, "down")
        state = servers.read_state(home.path)
        assert state
        bare = Settings(
            home=home.path, bucket=None, endpoint_url=None, prefect_api_url=None, dask_address=None, catalog_folders=()
        )
        shared = servers.variables(state, bare)
        stack.enter_context(_exported(shared))
        own = environment(home.path, **home.variables, **shared, **noted)
        address, dask = _cluster(stack, folder, own)
        parent = stack.enter_context(ThreadPoolExecutor(1))
        site = Emulated(
            Spec(name="ward-1", share=1.0),
            folder / "ward-1",
            shared | noted | {"CLOUDEDGE_HOME": str(folder / "ward-1")},
            parent,
        )
        site.program = [sys.executable, "-m", "tests.noted"]
        stack.callback(site.end)
        site.lay(shared["AWS_ENDPOINT_URL"].removeprefix("http://"), None, held_up=False)
        site.start()
        place = World(home, open_store(shared["CLOUDEDGE_BUCKET"]), site, notes, dask, {"CLOUDEDGE_DASK": address})
        _complete(place, place.coordinator())
        place.forget()
        begun = time.monotonic()
        report = _complete(place, place.coordinator())
        place.seconds = time.monotonic() - begun
        place.undisturbed = rows_of(place.store, report)
        assert len(notes.read_text().splitlines()) > 100, "what is computed is not noted"
        assert not recomputed(notes), "even the undisturbed run computed a shard twice"
        yield place


@contextmanager
def _exported(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    settings.export(variables)
    open_store.cache_clear()
    try:
        yield
    finally:
        open_store.cache_clear()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cluster(stack: ExitStack, folder: Path, env: dict[str, str]) -> tuple[str, subprocess.Popen[bytes]]:
    """A scheduler and two workers, which a nanny each starts again."""
    found = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    env = env | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    commands = (
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(found)],
        [*dask, "worker", "--scheduler-file", str(found), "--nworkers", "2", "--nthreads", "1", "--no-dashboard",
         "--host", "127.0.0.1", "--preload", "tests.noted", "--local-directory", str(folder)],
    )  # fmt: skip
    started = []
    for command in commands:
        log = stack.enter_context((folder / "dask.log").open("ab"))
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
        stack.callback(_end, process)
        started.append(process)
        wait_for("the scheduler's address", found.exists)
    return json.loads(found.read_text())["address"], started[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    family = [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []
    for member in family:
        member.kill()
    process.wait()


def _complete(place: World, process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=RUN_SECONDS)
    if process.returncode:
        raise AssertionError(f"a run that nothing befell ended with {process.returncode}: {err}")
    report: dict[str, Any] = json.loads(out)
    return report


def rows_of(store: Store, report: dict[str, Any]) -> pa.Table:
    """All predictions of a run, sorted by record."""
    parts = [pq.read_table(io.BytesIO(store.get(key))) for key in report["predictions"]]
    return pa.concat_tables(parts).sort_by("record_id")


def recomputed(notes: Path) -> Counter[tuple[int, int]]:
    """How many shards that a worker had computed were computed again; a worker is a thread of a site's pool, or Dask's."""
    first: dict[str, tuple[int, int]] = {}
    again: Counter[tuple[int, int]] = Counter()
    for line in notes.read_text().splitlines() if notes.exists() else ():
        note = json.loads(line)
        if note["shard"] in first:
            again[first[note["shard"]]] += 1
        first.setdefault(note["shard"], tuple(note["worker"]))
    return again


def play(place: World, *moments: Moment) -> Outcome:
    """A run from an empty ledger, what befalls it, and the runs that finish its work.

    Raises:
        AssertionError: it could not be finished.
    """
    place.forget()
    begun = time.monotonic()
    process, errors, struck = place.coordinator(), [], []
    with ExitStack() as mended:
        for moment in sorted(moments, key=lambda each: each.at):
            while time.monotonic() < begun + moment.at * place.seconds and process.poll() is None:
                time.sleep(0.02)
            if process.poll():  # what befell it before ended it
                errors.append(_said(process))
                process = place.coordinator()
            struck.append(process.poll() is None and strike(place, moment, process, mended))
        for _ in range(AGAIN):
            out, err = process.communicate(timeout=RUN_SECONDS)
            if process.returncode == 0:
                break
            errors.append(_said(process, err))
            mended.close()
            process = place.coordinator()
        else:
            raise AssertionError(f"{moments}: no run was complete: {errors}")
    seconds = time.monotonic() - begun
    report = json.loads(out)
    rows, right = rows_of(place.store, report), place.undisturbed
    ids, expected = rows["record_id"].to_pylist(), right["record_id"].to_pylist()
    one_by_one = zip(rows.to_pylist(), right.to_pylist(), strict=True) if ids == expected else ()
    again = recomputed(place.notes)
    return Outcome(
        tuple(sorted(moments, key=lambda each: each.at)), tuple(struck), seconds, tuple(errors),
        lost=len(set(expected) - set(ids)),
        repeated=len(ids) - len(set(ids)),
        differing=sum(a != b for a, b in one_by_one),
        recomputed=sum(again.values()),
        recomputed_by_worker=max(again.values(), default=0),
    )  # fmt: skip


def rounds(place: World, kills: int, seed: int, together: int) -> Iterator[Outcome]:
    """Rounds of random moments, until so many have struck a run that was under way, each kind of victim among them.

    Args:
        place: where.
        kills: moments that are to strike; at most three times as many are played.
        seed: of the moments.
        together: moments in a round.
    """
    drawn, struck = moments(MOST * max(kills, len(KINDS)), seed), Counter[str]()
    for first in range(0, len(drawn), together):
        if struck.total() >= kills and len(struck) == len(VICTIMS):
            return
        outcome = play(place, *drawn[first : first + together])
        struck.update(each.victim for each, was in zip(outcome.moments, outcome.struck, strict=True) if was)
        yield outcome


def _said(process: subprocess.Popen[str], err: str | None = None) -> str:
    err = process.communicate()[1] if err is None else err
    lines = [line for line in err.splitlines() if line.startswith("cloudedge: ")]
    return f"{process.returncode}: {lines[-1] if lines else err[-300:]}"


def strike(place: World, moment: Moment, coordinator: subprocess.Popen[str], mended: ExitStack) -> bool:
    """Do it, and wait as long as it lasts; whether there was somebody to do it to.

    Args:
        place: where.
        moment: what.
        coordinator: of the run that is under way.
        mended: gets what takes it back.
    """
    if moment.victim in {"site", "link"}:
        begin, end = _of_site(place, moment)
        mended.callback(end)
        begin()
        time.sleep(moment.lasts)
        mended.close()
        return True
    victims: dict[str, Callable[[], psutil.Process | None]] = {
        "coordinator": lambda: psutil.Process(coordinator.pid),
        "dask worker": lambda: next(iter(place.workers()), None),
        "s3": lambda: place.server("s3"),
        "prefect": lambda: place.server("prefect"),
    }
    victim = victims[moment.victim]()
    if victim is None:
        return False
    if moment.kind.startswith("kill"):
        victim.send_signal(signal.SIGKILL)
        return True
    mended.callback(lambda: victim.is_running() and victim.send_signal(signal.SIGCONT))
    victim.send_signal(signal.SIGSTOP)
    time.sleep(moment.lasts)
    mended.close()
    return True


def _of_site(place: World, moment: Moment) -> tuple[Callable[[], object], Callable[[], object]]:
    site = place.site
    process = site.process
    assert process
    if moment.kind == "kill site":
        return site.kill, site.start
    if moment.kind == "stop site":
        return lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)
    return lambda: site.cut(off=True), lambda: site.cut(off=False)


def summary(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By kind of victim: how often it was struck, and the worst that came of it; what befell a round counts for all in it."""
    found: dict[str, dict[str, float]] = {}
    for victim in VICTIMS:
        mine = [each for each in outcomes if victim in {moment.victim for moment in each.moments}]
        struck = [
            was
            for each in mine
            for moment, was in zip(each.moments, each.struck, strict=True)
            if moment.victim == victim
        ]
        found[victim] = {
            "kills": sum(struck),
            "runs_again": sum(len(outcome.errors) for outcome in mine),
            "lost": sum(outcome.lost for outcome in mine),
            "repeated": sum(outcome.repeated for outcome in mine),
            "differing": sum(outcome.differing for outcome in mine),
            "recomputed_max_per_worker": max((outcome.recomputed_by_worker for outcome in mine), default=0),
        }
    return found
