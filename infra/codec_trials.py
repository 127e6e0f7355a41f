"""What each codec does to a real shard, and which is the right one for a link.

The task that cuts shards, `cloudedge codecs` and the benchmark measure by the same function, and the planner chooses
by the same rule: compress, transfer and decompress overlap, so a stream of shards is as fast as the slowest of them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from data_catalog.errors import BadInput, BadRecord, ObjectMissing
from data_catalog.nouns import CodecTrial
from infra import fitting, partition, shards, sources
from infra.codecs import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from data_catalog.nouns import Dataset, Profile, Site, Source
    from infra.codecs import Codec
    from infra.storage import Store

REFERENCE = "zstd"
ESCALATION_CODEC = "zstd"  # the rows of an escalation are few; any fast codec that never fails will do
ABOUT = 1.25  # times the time of the best codec is not worth compressing a shard again
PATIENCE = 0.01  # seconds for which a codec is tried
FIRST_BYTES = 16 << 10  # of the sample that tells how fast a codec is
ALIKE = 1.05  # times the time of the best codec is as good: trials are no more exact, and the cores may be busy
WHOLE = 5  # times the patience may be spent to see the ratio of a whole shard
SAMPLE_BYTES = 8 << 20  # of a shard that `first_shard` makes
TIMES = 5  # the best of so many, if they are quick


@dataclass(frozen=True, slots=True)
class Trials:
    """What was measured, and why the other codecs were not."""

    tried: tuple[CodecTrial, ...]
    left_out: dict[str, str]


def measure(plain: bytes, patience: float = PATIENCE) -> Trials:
    """Try every codec on a shard, on one core.

    A codec that would take longer than `patience` over the whole shard gets a part of its rows. Its ratio there is
    multiplied by what the reference gains on the whole over that part, because ratios grow with size. Times are
    this thread's share of the processor, so that what else the machine does counts little.

    Args:
        plain: a real shard's Arrow bytes.
        patience: seconds for each codec, roughly.

    Returns:
        Trials of all codecs, but those whose package is not installed, that do not give the same bytes back, or
        that know no better for this shard than the reference in a frame of their own.
    """
    tried, left_out = [], {}
    ratio = _ratio(CODECS.get(REFERENCE), plain)
    for name in CODECS.names():
        try:
            codec = CODECS.get(name)
        except BadInput as error:  # its package is missing: nothing else breaks
            left_out[name] = str(error)
            continue
        trial = _try(name, codec, plain, ratio, patience)
        if isinstance(trial, str):
            left_out[name] = trial
        else:
            tried.append(trial)
    return Trials(tuple(tried), left_out)


def choose(trials: Iterable[CodecTrial], link: float, packing_cores: int = 1, unpacking_cores: int = 1) -> CodecTrial:
    """The codec whose slowest step of compress, transfer and decompress is the fastest.

    Of those within `ALIKE` of the best it is the one with the least work: that is as good, and leaves the cores to
    others.

    Args:
        trials: of the shards' source.
        link: bytes a second over the slowest link on the way.
        packing_cores: that compress shards side by side.
        unpacking_cores: that decompress shards side by side.
    """
    seconds = [(seconds_a_byte(trial, link, packing_cores, unpacking_cores), trial) for trial in trials]
    fastest = min(each for each, _ in seconds)
    alike = [trial for each, trial in seconds if each <= ALIKE * fastest]
    return min(alike, key=lambda trial: 1 / trial.compress_bytes_per_second + 1 / trial.decompress_bytes_per_second)


def missing() -> tuple[str, ...]:
    """Codecs whose package is not installed here; as a site with the plain install has some."""
    found = []
    for name in CODECS.names():
        try:
            CODECS.get(name)
        except BadInput:
            found.append(name)
    return tuple(found)


def choose_codec(
    trials: Sequence[CodecTrial],
    origin: tuple[Site, Profile],
    reader: tuple[Site, Profile],
    stored: Collection[str] = (),
    *,
    kept: bool = False,
    crosses: bool = True,
) -> str:
    """The codec whose slowest step of compress, transfer and decompress, which overlap, is the fastest.

    A site that is a process of its own answers shards while it packs others. There compressing takes time from answering,
    so it counts beside the transfer, not behind it.

    Args:
        trials: of the shard's source.
        origin: who compresses and sends.
        reader: who fetches and decompresses, with what is installed there; a site that answers its own shards fetches
            from the store too.
        stored: codecs under which the store has the shard; one of those that is about as fast is taken.
        kept: take one of those in any case: nobody will read the shard, unless to escalate other rows.
        crosses: whether it goes over any link; one that its site keeps on its own disk does not.
    """
    trials = [trial for trial in trials if trial.codec not in reader[1].missing_codecs]
    link = min(origin[1].up_bytes_per_second, reader[1].down_bytes_per_second) if crosses else math.inf
    cores = [min(site.threads, profile.cores) for site, profile in (origin, reader)]
    if crosses and origin[0].dispatch == "mailbox":
        of_each = {trial.codec: steps(trial, link, *cores) for trial in trials}
        seconds = {codec: max(s["compress"] + s["transfer"], s["decompress"]) for codec, s in of_each.items()}
        best = min(seconds, key=lambda codec: seconds[codec])
    else:
        seconds = {trial.codec: seconds_a_byte(trial, link, *cores) for trial in trials}
        best = choose(trials, link, *cores).codec
    near = [codec for codec in stored if codec in seconds and (kept or seconds[codec] <= ABOUT * seconds[best])]
    return min(near, key=lambda codec: seconds[codec], default=best)


def seconds_a_byte(trial: CodecTrial, link: float, packing_cores: float = 1, unpacking_cores: float = 1) -> float:
    """Seconds for each plain byte of a stream of shards: those of its slowest step."""
    return max(steps(trial, link, packing_cores, unpacking_cores).values())


def steps(trial: CodecTrial, link: float, packing_cores: float = 1, unpacking_cores: float = 1) -> dict[str, float]:
    """Seconds of each step for each plain byte; the steps overlap."""
    return {
        "compress": 1 / (trial.compress_bytes_per_second * packing_cores),
        "transfer": 1 / (trial.ratio * link),
        "decompress": 1 / (trial.decompress_bytes_per_second * unpacking_cores),
    }


def _try(name: str, codec: Codec, plain: bytes, reference_ratio: float, patience: float) -> CodecTrial | str:
    """The trial of one codec, or why there is none."""
    codec.compress(b"")  # it may import or make tables
    part = _part(plain, FIRST_BYTES)
    pack_seconds, packed = _best(partial(codec.compress, part, shards.tensor(part)), 0)
    if part is not plain and pack_seconds * len(plain) / len(part) < WHOLE * patience:
        part = plain
    elif part is not plain and pack_seconds < patience:
        part = _part(plain, int(len(part) * patience / pack_seconds))
    if part is plain or pack_seconds < patience:
        pack_seconds, packed = _best(partial(codec.compress, part, shards.tensor(part)), patience)
    reference = CODECS.get(REFERENCE)
    if name != REFERENCE and packed.endswith(reference.compress(part)):
        return f"has no other way for such records than {REFERENCE}"
    unpack_seconds, back = _best(partial(codec.decompress, packed, len(part)), patience)
    if back != part:
        return "gave back other bytes"
    grows = 1.0 if part is plain else reference_ratio / _ratio(reference, part)
    return CodecTrial(
        codec=name,
        ratio=grows * len(part) / len(packed),
        compress_bytes_per_second=len(part) / pack_seconds,
        decompress_bytes_per_second=len(part) / unpack_seconds,
    )


def _part(plain: bytes, wanted: int) -> bytes:
    """A shard of the first rows, of about as many bytes; the same if it has no more."""
    if wanted >= len(plain):
        return plain
    ids, x = shards.decode(plain)
    rows = max(1, int(wanted * len(x) / len(plain)))
    return shards.encode(ids[:rows], x[:rows])


def _ratio(codec: Codec, plain: bytes) -> float:
    return len(plain) / len(codec.compress(plain))


def _best(call: Callable[[], bytes], patience: float) -> tuple[float, bytes]:
    """Seconds of the fastest of several calls, or of one if that takes longer than the patience; and what it gave."""
    best, spent = float("inf"), 0.0
    for _ in range(TIMES):
        begun = time.thread_time()
        result = call()
        seconds = max(time.thread_time() - begun, 1e-9)
        best, spent = min(best, seconds), spent + seconds
        if spent > patience:
            break
    return best, result


class _Nowhere:
    """A store that has nothing and keeps nothing: statistics are fitted for this sample, and no server is needed."""

    def get(self, key: str) -> bytes:
        raise ObjectMissing(f"{key} is not in the store")

    def put(self, key: str, data: bytes) -> None:
        """Forget it."""


def first_shard(dataset: Dataset, source: Source, folder: Path) -> bytes:
    """The Arrow bytes of a source's first shard, made as a run would make them, or of so many of its rows as are enough.

    Args:
        dataset: the catalog entry.
        source: which of its sources.
        folder: where a remote file is copied to.

    Raises:
        CatalogError: the source cannot be found, or a transform has wrong settings.
        BadRecord: a record does not fit the schema, or no record is in the batch.
    """
    dataset = fitting.fitted(dataset, folder, cast("Store", _Nowhere()))
    files = sources.local_files(dataset, source, folder)
    ids, parts, rows, size = [], [], 0, 0
    for records in sources.read_records(dataset, source, files[0], dataset.batch):
        ids.append(records.ids)
        parts.append(records.x)
        rows, size = rows + len(records.x), size + records.x.nbytes
        if size >= SAMPLE_BYTES:
            break
    if not rows:
        raise BadRecord(
            f"source {source.name} of dataset {dataset.name} has no record in the batch; check `rows` and `batch`"
        )
    wanted = min(rows, partition.rows_of_a_shard(dataset, size // rows), max(1, SAMPLE_BYTES * rows // size))
    return shards.encode(pa.concat_arrays(ids)[:wanted], np.concatenate(parts)[:wanted])
