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
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from data_catalog.errors import CloudEdgeError, ObjectMissing, OrderRefused, StoreError, StoreFull, StoreUnreachable
from data_catalog.orders import Answered, Failure, Letter, Presence
from infra import keys, mailbox, sites
from infra.engine import failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_catalog.nouns import Noun
    from data_catalog.orders import Kind
    from infra.premises import SiteStore

QUICKEST, SLOWEST, SLOWER = 0.05, 2.0, 1.1  # seconds between two looks; the factor between pauses while nothing comes
REST, LONGEST = 20, 5.0  # times what a look took, until the next one while there is other work; seconds, at most
SIGN_SECONDS = 15.0  # between two signs of life
LATE_SECONDS = 60.0  # after its deadline a letter is not begun: clocks differ
TRIES = 3  # of an order at which the store failed in another way than by silence

Do = Callable[[Letter], "Noun | None"]


def work(site: str, store: SiteStore, do: Mapping[Kind, Do], say: Callable[[str], None] = lambda line: None) -> None:
    """Do the letters to a site as they come, until the process is ended.

    Args:
        site: its name.
        store: as the site sees it.
        do: by kind of letter, what does it: reads the order, returns the answer's body.
        say: told in a line what happens.

    Raises:
        BadInput: the store refuses the credentials; says what to set.
    """
    with _signs_of_life(site, store) as doing:
        at_work: set[str] = set()

        def lane(kinds: Mapping[Kind, Do]) -> None:
            settled: set[str] = set()
            failures: dict[str, int] = {}
            pause, me = QUICKEST, threading.current_thread().name

            def busy(order: str) -> None:
                (at_work.add if order else at_work.discard)(me)
                doing(order)

            while True:
                begun = time.monotonic()
                try:
                    if look(site, store, kinds, settled, failures, busy, say):
                        pause = QUICKEST
                        begun = time.monotonic()
                except (StoreError, OrderRefused) as error:
                    say(f"{error}; trying again")
                    pause = SLOWEST
                took = time.monotonic() - begun
                time.sleep(min(LONGEST, max(pause, REST * took)) if at_work else pause)
                pause = min(SLOWEST, pause * SLOWER)

        beside = {kind: act for kind, act in do.items() if kind == "compress"}  # shards leave while others are answered
        threading.Thread(target=lane, args=(beside,), name="lane", daemon=True).start()
        lane({kind: act for kind, act in do.items() if kind not in beside})


def look(
    site: str,
    store: SiteStore,
    do: Mapping[Kind, Do],
    settled: set[str],
    failures: dict[str, int],
    doing: Callable[[str], None] = lambda order: None,
    say: Callable[[str], None] = lambda line: None,
) -> bool:
    """Look into the mailbox once and do what is new; whether something was.

    Args:
        site: its name.
        store: as the site sees it.
        do: by kind of letter, what does it; letters of other kinds are left alone.
        settled: letters that need no further look; changed.
        failures: by letter, how often the store failed at it; changed.
        doing: told which order is being done.
        say: told in a line what happens.

    Raises:
        StoreError: the store gave no answer, or failed; the letter is to be tried again.
    """
    letters = [letter for letter in mailbox.read(store.beyond, site) if letter.kind in do]
    settled &= {letter.order_id for letter in letters}
    new = [each for each in letters if each.order_id not in settled and time.time() < each.deadline + LATE_SECONDS]
    for letter in new:
        if not store.exists(letter.answer):
            doing(letter.order_id)
            say(f"{letter.kind} {letter.order_id}")
            answer_letter(site, store, letter, do, failures)
            doing("")
        settled.add(letter.order_id)
    return bool(new)


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
