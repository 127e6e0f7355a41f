"""A site's end of a watched order: says once a beat how far it is, and hears which shards were withdrawn.

Both go through the store, beside the work and in a thread of their own, so that no shard waits for them. An order that
takes less than a beat costs one request; one that nobody watches costs none.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from data_catalog.errors import CloudEdgeError
from data_catalog.replanning import OrderProgress, Withdrawal
from infra import keys, storage

if TYPE_CHECKING:
    from types import TracebackType

    from data_catalog.nouns import OrderedShard, WorkOrder
    from infra.storage import Store

BEAT_SECONDS, LONGEST_BEAT = 1.0, 10.0
REST = 20  # times what a beat took, until the next one: a slow site has better things to do


def read_withdrawal(store: Store, key: str) -> tuple[Withdrawal, int]:
    """What was withdrawn by now, and the bytes that were read for it.

    Raises:
        CorruptObject: the object is no withdrawal.
        StoreError: as `Store.get`.
    """
    found = storage.read_noun(store, key, Withdrawal, "not a withdrawal")
    return (found, len(found.model_dump_json())) if found else (Withdrawal(), 0)


class Oversight:
    """What the coordinator may see of an order, and what it has taken back; beats while the block lasts."""

    def __init__(self, store: Store, order: WorkOrder) -> None:
        """Nothing is sent or asked before the block begins, nor ever if nobody watches the order."""
        self.withdrawn: frozenset[str] = frozenset()
        self.bytes_in = self.bytes_out = 0
        self._store, self._order = store, order
        self._begun, self._first, self._shards = time.monotonic(), 0.0, 0
        self._sent: set[str] = set()  # shards that others needed
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="oversight", daemon=True)

    def __enter__(self) -> Oversight:
        if self._order.watched:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._order.watched:
            self._thread.join()

    def gone(self, shard: OrderedShard) -> bool:
        """Whether the shard need not be answered here any more."""
        return shard.result in self.withdrawn

    def committed(self, shards: int = 1) -> None:
        """Count shards whose results are in the ledger."""
        with self._lock:
            self._first = self._first or time.monotonic()
            self._shards += shards

    def _run(self) -> None:
        self._hear()
        pause = BEAT_SECONDS
        while not self._over.wait(pause):
            begun = time.monotonic()
            self._tell()
            self._hear()
            pause = min(LONGEST_BEAT, max(BEAT_SECONDS, REST * (time.monotonic() - begun)))

    def _tell(self) -> None:
        with self._lock:
            now, first, shards = time.monotonic(), self._first, self._shards
        said = OrderProgress(
            order_id=self._order.order_id,
            shards=shards,
            seconds=now - self._begun,
            first_seconds=first - self._begun if first else None,
        )
        data = said.model_dump_json().encode()
        try:
            self._store.put(keys.progress(self._order.run_id, self._order.order_id), data)
        except CloudEdgeError:
            return  # the next beat says more; a link that stays down fails the work itself, by name
        self.bytes_out += len(data)

    def _hear(self) -> None:
        try:
            key = keys.withdrawal(self._order.run_id, self._order.order_id)
            said, size = read_withdrawal(self._store, key)
            self.withdrawn = frozenset(said.results)
            for shard in set(said.send) - self._sent:
                self._store.bring(shard)
                self._sent.add(shard)
        except CloudEdgeError:
            return  # likewise
        self.bytes_in += size
