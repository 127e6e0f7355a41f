"""A site's own process: it polls the site's mailbox and does what the letters name, each once.

It dials out to the store alone; nothing has to reach it. A letter whose answer is in the store is done. If the process
is killed, or its link goes down, the letter is done again from its beginning: what an order leaves behind has the names of
what was computed, so that is seldom much, and never wrong.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from data_catalog.errors import (
    CloudEdgeError,
    CorruptObject,
    ObjectMissing,
    OrderRefused,
    StoreError,
    StoreFull,
    StoreUnreachable,
)
from data_catalog.orders import Answered, Failure, Letter, Presence
from infra import keys, mailbox, sites
from infra.engine import failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_catalog.nouns import Noun
    from data_catalog.orders import Kind
    from infra.premises import SiteStore

QUICKEST, SLOWEST, SLOWER = 0.05, 2.0, 1.1  # seconds between two looks; the factor between pauses while nothing comes
LONGEST, RARER = 10.0, 2.0  # the same while there is work: looking takes time from it
SIGN_SECONDS = 15.0  # between two signs of life
LATE_SECONDS = 60.0  # after its deadline a letter is not begun: clocks differ
TRIES = 3  # of an order at which the store failed in another way than by silence

Do = Callable[[Letter], "Noun | None"]


def work(site: str, store: SiteStore, do: Mapping[Kind, Do], say: Callable[[str], None] = lambda line: None) -> None:
    """Do the letters to a site as they come, until the process is ended.

    Shards leave while others are answered, so letters of kind `compress` are done beside the others; of each sort one at a time.

    Args:
        site: its name.
        store: as the site sees it.
        do: by kind of letter, what does it: reads the order, returns the answer's body.
        say: told in a line what happens.

    Raises:
        BadInput: the store refuses the credentials; says what to set.
    """
    sorts: list[set[Kind]] = [{kind for kind in do if kind == "compress"}, {kind for kind in do if kind != "compress"}]
    jobs: list[threading.Thread | None] = [None for _ in sorts]
    settled: set[str] = set()
    failures: dict[str, int] = {}
    crashed: list[BaseException] = []
    ended = threading.Event()

    def run(letter: Letter) -> None:
        doing(letter.order_id)
        try:
            settle(site, store, letter, do, failures, say)
            settled.add(letter.order_id)
        except (StoreError, OrderRefused) as error:
            say(f"{error}; trying again")
            time.sleep(SLOWEST)
        except BaseException as error:
            crashed.append(error)
        doing("")
        ended.set()

    with _signs_of_life(site, store) as doing:
        pause = QUICKEST
        while not crashed:
            idle = [number for number, job in enumerate(jobs) if not (job and job.is_alive())]
            found: list[Letter] = []
            try:
                if idle:
                    found = unread(site, store, {kind for number in idle for kind in sorts[number]}, settled)
            except (StoreError, OrderRefused, CorruptObject) as error:  # whoever posts next writes the mailbox anew
                say(f"{error}; trying again")
                pause = SLOWEST
            for number in idle:
                if letter := next((each for each in found if each.kind in sorts[number]), None):
                    jobs[number] = job = threading.Thread(target=run, args=(letter,), name=letter.kind, daemon=True)
                    job.start()
                    pause = QUICKEST
            if ended.wait(pause):
                ended.clear()
                pause = QUICKEST
            elif any(job and job.is_alive() for job in jobs):
                pause = min(LONGEST, pause * RARER)
            else:
                pause = min(SLOWEST, pause * SLOWER)
        raise crashed[0]


def unread(site: str, store: SiteStore, kinds: Collection[str], settled: set[str]) -> list[Letter]:
    """The letters of these kinds that are to be done, oldest first.

    Args:
        site: its name.
        store: as the site sees it.
        kinds: that are wanted.
        settled: letters that need no further look; forgets those that are gone.

    Raises:
        StoreError: the store gave no answer, or failed.
    """
    letters = mailbox.read(store.beyond, site)
    settled &= {letter.order_id for letter in letters}
    return [
        each
        for each in letters
        if each.kind in kinds and each.order_id not in settled and time.time() < each.deadline + LATE_SECONDS
    ]


def settle(
    site: str,
    store: SiteStore,
    letter: Letter,
    do: Mapping[Kind, Do],
    failures: dict[str, int],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Do a letter, unless its answer is in the store already.

    Args:
        site: its name.
        store: as the site sees it.
        letter: what is to be done.
        do: by kind of letter, what does it.
        failures: by letter, how often the store failed at it; changed.
        say: told in a line what happens.

    Raises:
        StoreError: the store gave no answer, or failed; the letter is to be tried again.
    """
    if not store.exists(letter.answer):
        say(f"{letter.kind} {letter.order_id}")
        answer_letter(site, store, letter, do, failures)


def answer_letter(site: str, store: SiteStore, letter: Letter, do: Mapping[Kind, Do], failures: dict[str, int]) -> None:
    """Do a letter and write its answer.

    Raises:
        StoreError: the store gave no answer, or failed; the letter is to be tried again.
    """
    began = time.time()
    body, failure = None, None
    try:
        done = do[letter.kind](letter)
        body = done.model_dump(mode="json") if done else None
    except StoreError as error:
        failures[letter.order_id] = failures.get(letter.order_id, 0) + 1
        lasting = isinstance(error, ObjectMissing | StoreFull) or failures[letter.order_id] >= TRIES
        if isinstance(error, StoreUnreachable) or not lasting:
            raise
        failure = _failure(error)
    except Exception as error:
        failure = _failure(failed(site, error))
        if not isinstance(error, CloudEdgeError):
            sys.excepthook(type(error), error, error.__traceback__)  # for the log of the process
    received, sent = store.account()
    answered = Answered(
        order_id=letter.order_id, site=site, body=body, failure=failure, began=began, ended=time.time(),
        wan_in=received, wan_out=sent,
    )  # fmt: skip
    store.put(letter.answer, answered.model_dump_json(exclude_defaults=True).encode())


def _failure(error: CloudEdgeError) -> Failure:
    return Failure(error=type(error).__name__, message=str(error))


@contextmanager
def _signs_of_life(site: str, store: SiteStore) -> Iterator[Callable[[str], None]]:
    """Write one now and then; gives a function that is told which order is being done."""
    doing, ended, started = [""], threading.Event(), time.time()

    def sign() -> None:
        while True:
            seen = Presence(
                site=site, host=sites.host_name(), pid=os.getpid(), version=version("cloudedge"), started=started,
                at=time.time(), doing=doing[0],
            )  # fmt: skip
            with suppress(CloudEdgeError):  # the link is down: the next one may pass
                store.beyond.put(keys.presence(site), seen.model_dump_json().encode())
            if ended.wait(SIGN_SECONDS):
                return

    thread = threading.Thread(target=sign, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield lambda order: doing.__setitem__(0, order)
    finally:
        ended.set()
