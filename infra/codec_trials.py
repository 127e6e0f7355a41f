"""What each codec does to a real shard, and which is the right one for a link.

The task that cuts shards, `cloudedge codecs` and the benchmark measure by the same function, and the planner chooses
by the same rule: compress, transfer and decompress overlap, so a stream of shards is as fast as the slowest of them.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from data_catalog.errors import BadInput
from data_catalog.nouns import CodecTrial
from infra import shards
from infra.codecs import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infra.codecs import Codec

REFERENCE = "zstd"
PATIENCE = 0.01  # seconds for which a codec is tried
FIRST_BYTES = 16 << 10  # of the sample that tells how fast a codec is
TIMES = 5  # the best of so many, if they are quick
_ONE_AT_A_TIME = threading.Lock()  # else sources that are prepared side by side would measure each other


@dataclass(frozen=True, slots=True)
class Trials:
    """What was measured, and why the other codecs were not."""

    tried: tuple[CodecTrial, ...]
    left_out: dict[str, str]


def measure(plain: bytes, patience: float = PATIENCE) -> Trials:
    """Try every codec on a shard, on one core.

    A codec that would take longer than `patience` over the whole shard gets a part of its rows. Its ratio there is
    multiplied by what the reference gains on the whole over that part, because ratios grow with size.

    Args:
        plain: a real shard's Arrow bytes.
        patience: seconds for each codec, roughly.

    Returns:
        Trials of all codecs, but those whose package is not installed, that do not give the same bytes back, or
        that know no better for this shard than the reference in a frame of their own.
    """
    tried, left_out = [], {}
    ratio = _ratio(CODECS.get(REFERENCE), plain)
    with _ONE_AT_A_TIME:
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

    Args:
        trials: of the shards' source.
        link: bytes a second over the slowest link on the way.
        packing_cores: that compress shards side by side.
        unpacking_cores: that decompress shards side by side.
    """
    return min(trials, key=lambda trial: seconds_a_byte(trial, link, packing_cores, unpacking_cores))


def seconds_a_byte(trial: CodecTrial, link: float, packing_cores: int = 1, unpacking_cores: int = 1) -> float:
    """Seconds for each plain byte of a stream of shards: those of its slowest step."""
    return max(
        1 / (trial.compress_bytes_per_second * packing_cores),
        1 / (trial.ratio * link),
        1 / (trial.decompress_bytes_per_second * unpacking_cores),
    )


def _try(name: str, codec: Codec, plain: bytes, reference_ratio: float, patience: float) -> CodecTrial | str:
    """The trial of one codec, or why there is none."""
    codec.compress(b"")  # it may import or make tables
    part = _part(plain, FIRST_BYTES)
    pack_seconds, packed = _best(partial(codec.compress, part, shards.tensor(part)), 0)
    if pack_seconds < patience and part is not plain:
        part = _part(plain, int(len(part) * patience / pack_seconds))
    if pack_seconds < patience:
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
        begun = time.perf_counter()
        result = call()
        seconds = max(time.perf_counter() - begun, 1e-9)
        best, spent = min(best, seconds), spent + seconds
        if spent > patience:
            break
    return best, result
