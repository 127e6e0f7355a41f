"""The site engine: one block of shards through fetch, decompress, infer and commit, all overlapped.

`run_block` is what a Dask worker executes; it needs the work order's header, the shards' references and the
store, and imports neither Prefect nor, at the edge, TensorFlow.

A shard's result is written after its escalated rows, so whoever finds the result finds those too.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_catalog.errors import CloudEdgeError, CorruptObject, KeyMissing, ModelRefused, SiteFailed, StoreUnreachable
from data_catalog.nouns import Escalated, EscalationOrder, OrderedShard, VariantCard
from infra import cascade, keys, ledger, memory, pipeline, shard_cache, shards, sites
from infra.codecs import CODECS
from infra.oversight import read_withdrawal
from infra.runtimes import RUNTIMES
from infra.security.access import Keyring
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.oversight import Oversight
    from infra.runtimes import Predictor
    from infra.storage import Store

PACKINGS = 8  # tries to fit rows into a budget of bytes
MOST_RATIO = 100.0  # by which a codec is expected to shrink rows, at most
STAGES = ("fetch", "decompress", "infer", "commit")


@dataclass(frozen=True, slots=True)
class Block:
    """Some shards of a work order, with all that is needed to answer them: references, for it may travel."""

    site: str
    card: VariantCard
    batch: int
    escalation: EscalationOrder | None
    shards: tuple[OrderedShard, ...]
    store: Store
    home: Path | None = None  # with the site's folder; None: as the settings say where the block runs
    withdrawal: str = ""  # key of what the order's site need not do any more; empty: nobody takes anything back

    @property
    def folder(self) -> Path:
        """The site's own folder."""
        return (self.home or read_settings().home) / "sites" / self.site

    def read(self, shard: OrderedShard) -> tuple[bytes, int]:
        """A shard's packed bytes, and how many of them the store had to send; see `shard_cache.read_shard`."""
        most = read_settings().shard_cache_bytes
        return shard_cache.read_shard(self.store, shard, self.folder / "shards", most)


class Predictors:
    """As many predictors of one variant as may compute at once; a block borrows one for each shard.

    So more blocks than that can be under way: while one of them waits for its first shard or commits its
    last, the others compute. And loading a small model takes as long as answering a thousand rows with it.
    """

    def __init__(self, card: VariantCard, model: bytes, batch: int, count: int) -> None:
        """Each is loaded when it is first borrowed."""
        self.card, self.model, self.batch = card, model, batch
        self.startup_seconds = 0.0  # of the slowest to load
        self._idle: queue.SimpleQueue[Predictor | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    @contextmanager
    def borrow(self) -> Iterator[Predictor]:
        """Wait for one that is idle.

        Raises:
            ModelRefused: the runtime cannot run the model.
        """
        predict = self._idle.get()
        try:
            if predict is None:
                begun = time.time()
                predict = RUNTIMES.get(self.card.runtime).load(self.model, self.batch)
                self.startup_seconds = max(self.startup_seconds, time.time() - begun)
            yield predict
        finally:
            self._idle.put(predict)


@dataclass(frozen=True, slots=True)
class BlockDone:
    """What became of a block: per shard the rows escalated, and the account."""

    rows: int
    shards: int
    escalated: tuple[Escalated, ...]
    times: tuple[pipeline.StageTimes, ...]
    startup_seconds: float
    bytes_in: int
    bytes_out: int
    wan_in: int
    wan_out: int
    held_rows: int = 0
    withdrawn: tuple[str, ...] = ()  # results that were left to others


@dataclass(slots=True)
class _Work:
    """One shard on its way through the stages; what a stage has used up is dropped."""

    shard: OrderedShard
    packed: bytes
    ids: Any = None  # (n,) Arrow strings
    x: Any = None  # (n, *shape)
    prediction: Any = None  # (n,) int32
    confidence: Any = None  # (n,) float32


def run_block(
    block: Block,
    predictors: Predictors | None = None,
    keyring: Keyring | None = None,
    oversight: Oversight | None = None,
) -> BlockDone:
    """Answer all shards of a block and commit their results; those that were withdrawn before their turn are left out.

    Args:
        block: which shards, and how.
        predictors: shared with the blocks beside it in this process; None: one of its own, of the variant in this
            machine's cache or else in the store.
        keyring: the site's, likewise.
        oversight: the order's, likewise; None: what was withdrawn is asked once, now.

    Raises:
        CorruptObject: a shard is not what its name promises.
        KeyMissing: a shard is encrypted, and the site has no access to it.
        ModelRefused: the runtime cannot run the model, or its answers do not fit the card.
        StoreError: or a subclass: the store failed.
    """
    account = {"bytes_in": 0, "bytes_out": 0, "wan_in": 0, "wan_out": 0}
    memory.give_back_large_blocks()
    if predictors is None:
        model, crossed = sites.cached_model(block.store, block.card, block.folder)
        account["bytes_in"] += crossed
        account["wan_in"] += crossed
        predictors = Predictors(block.card, model, block.batch, 1)
    withdrawn: frozenset[str] = frozenset()
    if oversight is None and block.withdrawal:
        said, size = read_withdrawal(block.store, block.withdrawal)
        withdrawn = frozenset(said.results)
        account["bytes_in"] += size
        account["wan_in"] += size
    ring = keyring or Keyring(block.store, block.site)
    waited = 0.0
    # What is computed and not committed is lost with the process: one shard. Meanwhile the block beside it computes.
    uncommitted = threading.Semaphore(1)
    escalated: list[Escalated] = []
    left: list[OrderedShard] = []

    def gone(shard: OrderedShard) -> bool:
        if taken := oversight.gone(shard) if oversight else shard.result in withdrawn:
            left.append(shard)
        return taken

    def fetch(shard: OrderedShard) -> _Work | None:
        if gone(shard):
            return None
        packed, crossed = block.read(shard)
        account["bytes_in"] += crossed
        account["wan_in"] += 0 if shard.local else crossed
        return _Work(shard, packed)

    def decompress(work: _Work | None) -> _Work | None:
        if work is None:
            return None
        shard = work.shard
        plain = _unpack(block, ring, shard, work.packed)
        work.ids, work.x = shards.decode(plain)
        work.packed = b""
        if len(work.x) != shard.rows or work.x.shape[1:] != block.card.shape or work.x.dtype != block.card.dtype:
            raise CorruptObject(
                f"{shard.key} holds {work.x.shape} {work.x.dtype} where model {block.card.model!r} needs"
                f" {(shard.rows, *block.card.shape)} {block.card.dtype}; give the dataset the model's transforms"
            )
        return work

    def infer(work: _Work | None) -> _Work | None:
        nonlocal waited
        if work is None or (oversight and gone(work.shard)):  # it may have waited long for its turn
            return None
        begun = time.time()
        uncommitted.acquire()
        with predictors.borrow() as predict:
            waited += time.time() - begun
            logits = predict(work.x)
        _require_fit(logits, len(work.x), block.card)
        work.prediction, work.confidence = cascade.answer(logits, block.card.temperature)
        return work

    def commit(work: _Work | None) -> None:
        if work is None:
            return
        try:
            keep(work)
        finally:
            uncommitted.release()

    def keep(work: _Work) -> None:
        packed, data = _pack_unsure(block.escalation, work.ids, work.x, work.confidence)
        if packed and data:
            escalation = _escalated(block.escalation, work.shard, packed)
            data = _sealed(ring, block.escalation, escalation.key, data)
            escalated.append(_send_packed(block.store, escalation, data, account))
        result = ledger.write_result(
            work.ids, work.prediction, work.confidence, block.card.tier, block.card.digest, packed
        )
        block.store.put(keys.result(work.shard.result), result)
        account["wan_out"] += len(result)
        account["bytes_out"] += len(result)
        if oversight:
            oversight.committed()

    stages: list[tuple[str, Callable[[Any], Any]]] = list(zip(STAGES, (fetch, decompress, infer, commit), strict=True))
    _, times = pipeline.run_stages(block.shards, stages, depth=1)  # a shard is large, and one in waiting is enough
    times[STAGES.index("infer")].busy -= waited
    return BlockDone(
        rows=sum(shard.rows for shard in block.shards) - sum(shard.rows for shard in left),
        shards=len(block.shards) - len(left),
        escalated=tuple(escalated),
        times=tuple(times),
        startup_seconds=predictors.startup_seconds,
        withdrawn=tuple(shard.result for shard in left),
        **account,
    )


def _unpack(block: Block, ring: Keyring, shard: OrderedShard, packed: bytes) -> bytes:
    """The Arrow bytes of a stored shard, decrypted if need be, and verified.

    One that was damaged in the store already is not kept on the disk, nor one under a key that the site has lost.
    """
    try:
        packed = ring.open(shard.key, packed) if keys.is_encrypted(shard.key) else packed
        return shards.unpack(packed, shard.codec, shard.bytes, shard.digest, shard.key)
    except (CorruptObject, KeyMissing):
        shard_cache.drop(block.folder / "shards", shard.key)
        raise


def _require_fit(logits: NDArray[np.float32], rows: int, card: VariantCard) -> None:
    """A row for each record, and a logit for each class or, where nothing was found, none.

    Raises:
        ModelRefused: the answers are anything else.
    """
    if logits.ndim != 2 or logits.shape[0] != rows or logits.shape[1] not in {0, len(card.classes)}:
        raise ModelRefused(
            f"variant {card.name} of model {card.model} answers {rows} records with an array of shape {logits.shape}, where"
            f" ({rows}, {len(card.classes)}) logits are needed, one for each class; export the model with such an output"
        )


def _sealed(ring: Keyring, order: EscalationOrder | None, key: str, data: bytes) -> bytes:
    """Packed rows as they are stored: encrypted for the cloud, if the order says so."""
    assert order is not None
    return ring.seal(key, data, order.shard_set, order.recipients) if order.shard_set else data


def _pack_unsure(
    order: EscalationOrder | None, ids: pa.Array, x: NDArray[np.generic], confidence: NDArray[np.float32]
) -> tuple[ledger.Packed | None, bytes]:
    """The rows that the edge is unsure of, packed for the cloud: what they are, and their bytes."""
    if order is None or order.held or order.picked:  # which rows go is, or was, chosen when all sites have answered
        return None, b""
    unsure = np.flatnonzero(confidence < np.float32(order.threshold))
    return _pack(order, ids.take(pa.array(unsure)), x[unsure])


def _pack(order: EscalationOrder, ids: pa.Array, x: NDArray[np.generic]) -> tuple[ledger.Packed, bytes]:
    """Rows of one shard as they are sent."""
    if not len(x):
        return ledger.Packed(order.threshold, order.codec), b""
    plain = shards.encode(ids, x)
    packed = ledger.Packed(order.threshold, order.codec, len(x), shards.digest(plain), len(plain))
    return packed, CODECS.get(order.codec).compress(plain)


def _escalated(order: EscalationOrder | None, shard: OrderedShard, packed: ledger.Packed) -> Escalated:
    """Where the packed rows lie, and what the cloud's answer to them is called."""
    assert order is not None
    return Escalated(
        shard=shard.result,
        key=keys.escalation(packed.digest, packed.codec, bool(order.shard_set)),
        digest=packed.digest,
        rows=packed.rows,
        bytes=packed.bytes,
        codec=packed.codec,
        result=keys.result_name(packed.digest, order.cloud_variant, order.preprocessing),
    )


def escalate_known(block: Block, keyring: Keyring | None = None) -> BlockDone:
    """Escalate rows of shards whose results the ledger already holds; nothing is inferred.

    A result remembers what was packed from its shard for which threshold. Where that is this order's, only
    the result is read; for another threshold, or if the packed rows are gone from the store, the shard is read
    again and they are packed anew.
    """
    account = {"bytes_in": 0, "bytes_out": 0, "wan_in": 0, "wan_out": 0}
    ring = keyring or Keyring(block.store, block.site)
    escalated: list[Escalated] = []
    begun = time.time()
    order = block.escalation
    for shard in block.shards if order else ():
        assert order is not None
        key = keys.result(shard.result)
        data = block.store.get(key)
        account["bytes_in"] += len(data)
        account["wan_in"] += len(data)
        result = ledger.read_result(data, key)
        packed = ledger.packed_in(result)
        known = _escalated(order, shard, packed).key if packed else ""
        if not _is_packed(ring, order, packed, known):
            data, crossed = block.read(shard)
            account["bytes_in"] += crossed
            account["wan_in"] += 0 if shard.local else crossed
            ids, x = shards.decode(_unpack(block, ring, shard, data))
            packed, data = _pack_unsure(order, ids, x, result["confidence"].to_numpy())
            if packed and data:
                escalation = _escalated(order, shard, packed)
                data = _sealed(ring, order, escalation.key, data)
                escalated.append(_send_packed(block.store, escalation, data, account))
        elif packed and packed.rows:
            escalated.append(_escalated(order, shard, packed))
    return BlockDone(
        rows=sum(shard.rows for shard in block.shards),
        shards=len(block.shards),
        escalated=tuple(escalated),
        times=(pipeline.StageTimes("escalate", time.time() - begun, begun, time.time()),),
        startup_seconds=0.0,
        withdrawn=(),
        **account,
    )


def escalate_picked(block: Block, keyring: Keyring | None = None) -> BlockDone:
    """Send the rows that the order picked, of shards whose results the ledger holds; nothing is inferred.

    Where the packed rows are more than the bytes that may be sent, fewer are packed, until they fit; those that gain
    least stay. What the store has already is not sent again.
    """
    account = {"bytes_in": 0, "bytes_out": 0, "wan_in": 0, "wan_out": 0}
    order, ring, begun = block.escalation, keyring or Keyring(block.store, block.site), time.time()
    assert order is not None
    ranks: dict[int, dict[int, int]] = {}  # by shard: its rows, and how many rows gain more
    for rank, (number, row) in enumerate(order.picked):
        ranks.setdefault(number, {})[row] = rank
    opened: dict[int, tuple[list[str], NDArray[np.generic]]] = {}  # by shard: those that may go

    def pack(most: int) -> tuple[list[tuple[Escalated, ledger.Packed, bytes]], int]:
        packs: list[tuple[Escalated, ledger.Packed, bytes]] = []
        for number, rows in sorted(ranks.items()):
            shard, mine = block.shards[number], sorted(row for row, rank in rows.items() if rank < most)
            if not mine:
                continue
            if number not in opened:
                data, crossed = block.read(shard)
                account["bytes_in"] += crossed
                account["wan_in"] += 0 if shard.local else crossed
                ids, x = shards.decode(_unpack(block, ring, shard, data))
                opened[number] = ids.take(pa.array(sorted(rows))).to_pylist(), x[sorted(rows)]
            names, x = opened[number]
            which = np.searchsorted(sorted(rows), mine)
            packed, data = _pack(order, pa.array([names[i] for i in which], pa.string()), x[which])
            escalation = _escalated(order, shard, packed)
            packs.append((escalation, packed, _sealed(ring, order, escalation.key, data)))
        return packs, sum(len(data) for *_, data in packs)

    most, limit = len(order.picked), order.most_bytes
    if limit is not None:  # no codec makes rows so small, and the rows at hand stay few
        smallest = min(shard.bytes / shard.rows for shard in block.shards) / MOST_RATIO
        most = min(most, int(limit / smallest))
    packs, size = pack(most)
    if limit is not None and size > limit:
        packs = _most_that_fit(pack, limit, most, size)
    sent = []
    for escalation, packed, data in packs:
        there = _is_packed(ring, order, packed, escalation.key)
        sent.append(escalation if there else _send_packed(block.store, escalation, data, account))
    return BlockDone(
        rows=sum(shard.rows for shard in block.shards),
        shards=len(block.shards),
        escalated=tuple(sent),
        times=(pipeline.StageTimes("escalate", time.time() - begun, begun, time.time()),),
        startup_seconds=0.0,
        held_rows=len(order.picked) - sum(escalation.rows for escalation in sent),
        withdrawn=(),
        **account,
    )


def _most_that_fit(pack: Callable[[int], tuple[list[Any], int]], limit: int, most: int, size: int) -> list[Any]:
    """The packs of about as many rows as fit into a number of bytes, by false position.

    Args:
        pack: gives the packs of so many rows, and their bytes.
        limit: most bytes.
        most: rows that are too many, and
        size: their bytes.
    """
    few, small = 0, 0
    best: list[Any] = []
    for _ in range(PACKINGS):
        if most - few <= 1:
            break
        middle = few + int((most - few) * (limit - small) / (size - small))
        middle = min(max(middle, few + 1), most - 1)
        packs, taken = pack(middle)
        if taken <= limit:
            few, small, best = middle, taken, packs
        else:
            most, size = middle, taken
    return best


def _send_packed(store: Store, escalation: Escalated, data: bytes, account: dict[str, int]) -> Escalated:
    """Store packed rows; if the store cannot be reached they are not lost, for they can be packed again."""
    try:
        store.put(escalation.key, data)
    except StoreUnreachable:
        return escalation.model_copy(update={"sent": False})
    account["bytes_out"] += len(data)
    account["wan_out"] += len(data)
    return escalation


def _is_packed(ring: Keyring, order: EscalationOrder, packed: ledger.Packed | None, key: str) -> bool:
    """Whether what the result remembers is what the order wants, is still there, and can be opened by the cloud."""
    if packed is None or (packed.threshold, packed.codec) != (order.threshold, order.codec):
        return False
    if not packed.rows:
        return True
    return ring.store.exists(key) and (not order.shard_set or bool(ring.share([(key, order.recipients)])))


def failed(site: str, error: BaseException) -> CloudEdgeError:
    """The error that a site reports: our own as it is, any other wrapped with the site's name."""
    if isinstance(error, CloudEdgeError):
        return error
    return SiteFailed(f"site {site}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
