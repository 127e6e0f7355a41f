"""A site's mailbox: one small object that its process polls. Letters name orders, and where their answers go.

The coordinator writes the mailbox, the site only reads it and writes answers; nobody has to reach the site. Two
coordinators may write at once and one of them lose a letter, so whoever waits for an answer looks from time to time
whether the letter is still there, and posts it again. A letter that is read twice is done once: see `infra/agent.py`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from data_catalog import errors
from data_catalog.errors import CloudEdgeError, SiteFailed
from data_catalog.orders import Answered, Letter, Mailbox, Presence
from infra import coordination, keys
from infra.storage import read_noun

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_catalog.nouns import Noun
    from data_catalog.orders import Kind
    from infra.storage import Store

    HandOver = Callable[[Store, str, Letter], None]

QUICKEST, SLOWEST, SLOWER = 0.05, 0.5, 1.2  # seconds between two looks for an answer; the factor between pauses
LOOK_AFTER_LETTER = 5.0  # seconds
_writing = threading.Lock()  # letters of one run to one site are posted side by side


def read(store: Store, site: str) -> tuple[Letter, ...]:
    """The letters to a site, oldest first.

    Raises:
        CorruptObject: the object is no mailbox.
    """
    return (read_noun(store, keys.mailbox(site), Mailbox, "no mailbox") or Mailbox()).letters


def post(store: Store, site: str, letter: Letter) -> None:
    """Put a letter into the mailbox if it is not there, and take those out that nobody waits for any more."""
    with _writing:
        there = read(store, site)
        if letter in there:
            return
        now = time.time()
        letters = (*(old for old in there if old.deadline > now and old.order_id != letter.order_id), letter)
        store.put(keys.mailbox(site), Mailbox(letters=letters).model_dump_json().encode())


def remove(store: Store, site: str, order_id: str) -> None:
    """Take a letter out of the mailbox."""
    with _writing:
        there = read(store, site)
        left = tuple(letter for letter in there if letter.order_id != order_id)
        if left != there:
            store.put(keys.mailbox(site), Mailbox(letters=left).model_dump_json().encode())


def ask(
    store: Store,
    site: str,
    kind: Kind,
    order: Noun | str,
    run_id: str,
    name: str,
    seconds: float,
    hand_over: HandOver = post,
) -> Answered:
    """Hand an order to a site and wait for its answer.

    Args:
        store: where order, mailbox and answer lie.
        site: its name.
        kind: of the order.
        order: itself, or its key where it is in the store already.
        run_id: of the run.
        name: of the order in its run.
        seconds: how long to wait.
        hand_over: how the letter gets there; called again from time to time, to do nothing if it is there still.

    Raises:
        Conflict: another coordinator has taken over.
        CloudEdgeError: what the site reports, by its class.
        SiteFailed: there was no answer in time; says when the site gave its last sign of life.
    """
    coordination.admit(run_id)
    key = order if isinstance(order, str) else keys.run(run_id, "orders", f"{name}.json")
    if not isinstance(order, str):
        store.put(key, order.model_dump_json(exclude_defaults=True).encode())
    answer = keys.run(run_id, "answers", f"{name}.json")
    letter = Letter(order_id=f"{run_id}/{name}", kind=kind, key=key, answer=answer, deadline=time.time() + seconds)
    hand_over(store, site, letter)
    try:
        answered = wait(store, site, letter, hand_over)
    finally:
        remove(store, site, letter.order_id)
    if answered.failure:
        raise _error(answered.failure.error)(answered.failure.message)
    return answered


def wait(store: Store, site: str, letter: Letter, hand_over: HandOver = post) -> Answered:
    """The answer to a letter; raises SiteFailed at its deadline."""
    pause, looked = QUICKEST, time.monotonic()
    while True:
        if answered := read_noun(store, letter.answer, Answered, "no answer of a site"):
            return answered
        if time.time() > letter.deadline:
            raise SiteFailed(
                f"site {site} gave no answer to {letter.order_id} in time ({_last_seen(store, site)});"
                f" start `cloudedge site work {site}` there, or look at its link, and run again"
            )
        if time.monotonic() - looked > LOOK_AFTER_LETTER:
            hand_over(store, site, letter)
            looked = time.monotonic()
        time.sleep(pause)
        pause = min(SLOWEST, pause * SLOWER)


def read_presence(store: Store, site: str) -> Presence | None:
    """The last sign of life of a site's process, if there ever was one."""
    return read_noun(store, keys.presence(site), Presence, "no sign of life of a site")


def _last_seen(store: Store, site: str) -> str:
    seen = read_presence(store, site)
    return f"last sign of life {time.time() - seen.at:.0f} s ago" if seen else "no process of it was ever there"


def _error(name: str) -> type[CloudEdgeError]:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, CloudEdgeError) else SiteFailed
