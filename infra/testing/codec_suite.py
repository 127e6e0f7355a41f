"""What every codec must do; see `infra.codecs` for the contract."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import CorruptObject
from infra import shards
from infra.codecs import CODECS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.codecs import Codec

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")
LARGE = 8 << 20
BOMB = 64 << 20
LITTLE_MEMORY = 4 << 20  # what refusing a bomb may allocate: far less than the bomb


def check_round_trip_of_bytes(codec: Codec) -> None:
    """Any bytes survive."""

    @FEW
    @given(st.binary(max_size=4096))
    def survive(data: bytes) -> None:
        assert codec.decompress(codec.compress(data), len(data)) == data

    survive()


def check_round_trip_of_arrays(codec: Codec) -> None:
    """Arrays of every dtype of a schema survive as the bytes of a shard."""

    @FEW
    @given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=3, max_side=12))))
    def survive(x: NDArray[np.generic]) -> None:
        data = x.tobytes()
        assert codec.decompress(codec.compress(data), len(data)) == data

    survive()


def check_round_trip_of_extremes(codec: Codec) -> None:
    """Nothing, one byte, and some megabytes that compress well, badly and not at all."""
    noise = np.random.default_rng(1).bytes(LARGE)
    for data in (b"", b"\0", bytes(LARGE), noise, noise[: LARGE // 2] + bytes(LARGE // 2)):
        assert codec.decompress(codec.compress(data), len(data)) == data


def check_compress_is_pure(codec: Codec) -> None:
    """The same bytes give the same object: a shard that is packed twice is written twice the same."""
    data = np.random.default_rng(2).integers(0, 9, 5000).astype(np.uint8).tobytes()
    assert codec.compress(data) == codec.compress(data)


def check_damage_is_never_silent(codec: Codec) -> None:
    """A flipped bit is refused, or the shard's digest catches it, or it lay where it changes nothing."""

    @FEW
    @given(st.binary(max_size=600), st.data())
    def refuse(plain: bytes, draw: st.DataObject) -> None:
        packed = bytearray(codec.compress(plain))
        if not packed:
            return
        bit = draw.draw(st.integers(0, 8 * len(packed) - 1), label="bit")
        packed[bit // 8] ^= 1 << bit % 8
        try:
            given_back = codec.decompress(bytes(packed), len(plain))
        except ValueError:
            return
        # Only a codec that stores the bytes as they are may leave it to the shard's digest.
        assert given_back == plain or len(packed) == len(plain)

    refuse()


def check_cut_and_extended_objects_are_refused(codec: Codec) -> None:
    """Bytes that are missing at the end, or too many, are a ValueError."""

    @FEW
    @given(st.binary(max_size=600), st.binary(min_size=1, max_size=40), st.data())
    def refuse(plain: bytes, tail: bytes, draw: st.DataObject) -> None:
        packed = codec.compress(plain)
        with pytest.raises(ValueError, match=r"\S"):
            codec.decompress(packed + tail, len(plain))
        with pytest.raises(ValueError, match=r"\S"):
            codec.decompress(packed + packed, 2 * len(plain) + 1)
        if packed:
            with pytest.raises(ValueError, match=r"\S"):
                codec.decompress(packed[: draw.draw(st.integers(0, len(packed) - 1), label="kept")], len(plain))

    refuse()


def check_another_size_than_promised_is_refused(codec: Codec) -> None:
    """The promised size is exact."""

    @FEW
    @given(st.binary(max_size=600), st.integers(0, 1 << 48))
    def refuse(plain: bytes, size: int) -> None:
        if size != len(plain):
            with pytest.raises(ValueError, match=r"\S"):
                codec.decompress(codec.compress(plain), size)

    refuse()


def check_bombs_do_not_go_off(codec: Codec) -> None:
    """An object that would give far more than promised, or a promise far too large, costs no memory."""
    bomb, small = codec.compress(bytes(BOMB)), codec.compress(b"small")
    tracemalloc.start()
    try:
        for packed, size in ((bomb, 10), (bomb, BOMB - 1), (small, 1 << 40)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(ValueError, match=r"\S"):
                codec.decompress(packed, size)
            used = tracemalloc.get_traced_memory()[1] - before
            assert used < LITTLE_MEMORY, f"refusing {len(packed)} bytes for {size} took {used} bytes of memory"
    finally:
        tracemalloc.stop()


def check_safe_in_threads(codec: Codec) -> None:
    """Many threads at once get what one gets."""
    random = np.random.default_rng(3)
    data = [random.integers(0, 1 + k, 20_000 + k).astype(np.uint8).tobytes() for k in range(48)]

    def there_and_back(plain: bytes) -> bytes:
        return codec.decompress(codec.compress(plain), len(plain))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(there_and_back, data)) == data


def check_a_damaged_shard_is_named(codec: Codec) -> None:
    """Through `shards.unpack`, which finds codecs by name, each damage is a CorruptObject with its name."""
    name = next((name for name in CODECS.names() if CODECS.get(name) is codec), None)
    if name is None:
        pytest.skip("not registered: shards.unpack finds codecs by name")
    plain = np.random.default_rng(4).integers(0, 4, 3000).astype(np.uint8).tobytes()
    packed, digest = codec.compress(plain), shards.digest(plain)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 4
    for bad in (bytes(flipped), packed[:-1], packed + b"\0", b"", b"no shard"):
        with pytest.raises(CorruptObject, match=r"datasets/d/shards/s is corrupt.*delete that object and run again"):
            shards.unpack(bad, name, len(plain), digest, "datasets/d/shards/s")
    assert shards.unpack(packed, name, len(plain), digest, "k") == plain


CHECKS = (
    check_round_trip_of_bytes,
    check_round_trip_of_arrays,
    check_round_trip_of_extremes,
    check_compress_is_pure,
    check_damage_is_never_silent,
    check_cut_and_extended_objects_are_refused,
    check_another_size_than_promised_is_refused,
    check_bombs_do_not_go_off,
    check_safe_in_threads,
    check_a_damaged_shard_is_named,
)
