"""What every codec must do; see `infra.codecs` for the contract."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_catalog.errors import CorruptObject
from infra import shards
from infra.codecs import CODECS, ITEM_BYTES, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.codecs import Codec

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = tuple(ITEM_BYTES)
LARGE, LARGE_FOR_SLOW = 8 << 20, 1 << 18
SLOW = 4e6  # bytes a second
BOMB = 64 << 20
LITTLE_MEMORY = 4 << 20  # what refusing a bomb may allocate: far less than the bomb


def arrays(least_dimensions: int = 1) -> st.SearchStrategy[NDArray[np.generic]]:
    """Arrays of every dtype of a schema and any shape; images of one and three channels among them."""
    shapes = hnp.array_shapes(min_dims=least_dimensions, max_dims=4, max_side=12)
    images = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3)))
    return st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes | images))


def shard_of(x: NDArray[np.generic]) -> tuple[bytes, Tensor | None]:
    """A shard's Arrow bytes, and where its tensor lies."""
    plain = shards.encode(pa.array([f"made/{row:09d}" for row in range(len(x))]), x)
    return plain, shards.tensor(plain)


def large(codec: Codec) -> int:
    """Bytes that count as many: fewer for a codec that would take minutes over them."""
    noise = np.random.default_rng(5).bytes(1 << 17)
    begun = time.perf_counter()
    codec.compress(noise, Tensor(0, (128, 32, 32, 1), "uint8"))
    return LARGE if len(noise) / (time.perf_counter() - begun) > SLOW else LARGE_FOR_SLOW


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
    @given(arrays())
    def survive(x: NDArray[np.generic]) -> None:
        data = x.tobytes()
        assert codec.decompress(codec.compress(data), len(data)) == data
        described = codec.compress(data, Tensor(0, x.shape, x.dtype.name))
        assert codec.decompress(described, len(data)) == data

    survive()


def check_round_trip_of_shards(codec: Codec) -> None:
    """Shards survive, their tensor described; and no bit of a float is lost: not of a NaN, not of minus zero."""

    @FEW
    @given(arrays(least_dimensions=2))
    def survive(x: NDArray[np.generic]) -> None:
        plain, tensor = shard_of(x)
        assert tensor
        assert plain[tensor.start :][: tensor.bytes] == x.tobytes()
        assert codec.decompress(codec.compress(plain, tensor), len(plain)) == plain

    survive()


def check_a_tensor_is_a_hint(codec: Codec) -> None:
    """Bytes survive whatever is said of them, and many records as well as few."""
    shapes = st.lists(st.integers(0, 9), max_size=5).map(tuple)

    @FEW
    @given(st.binary(max_size=4096), st.integers(-1, 4096), shapes, st.sampled_from((*DTYPES, "complex64")))
    def survive(data: bytes, start: int, shape: tuple[int, ...], dtype: str) -> None:
        tensor = Tensor(start, shape, dtype)
        assert codec.decompress(codec.compress(data, tensor), len(data)) == data

    survive()
    records = np.random.default_rng(6).integers(0, 3, (1500, 20, 10, 1), np.uint8)
    plain, tensor = shard_of(records)
    assert codec.decompress(codec.compress(plain, tensor), len(plain)) == plain


def check_round_trip_of_extremes(codec: Codec) -> None:
    """Nothing, one byte, and some megabytes that compress well, badly and not at all."""
    size = large(codec)
    noise = np.random.default_rng(1).bytes(size)
    for data in (b"", b"\0", bytes(size), noise, noise[: size // 2] + bytes(size // 2)):
        assert codec.decompress(codec.compress(data), len(data)) == data
    images = np.frombuffer(noise, np.uint8).reshape(-1, 32, 32, 1)
    for x in (images, np.zeros_like(images), np.frombuffer(noise, np.float32).reshape(-1, 64, 4)):
        plain, tensor = shard_of(x)
        assert codec.decompress(codec.compress(plain, tensor), len(plain)) == plain


def check_compress_is_pure(codec: Codec) -> None:
    """The same bytes give the same object: a shard that is packed twice is written twice the same."""
    data = np.random.default_rng(2).integers(0, 9, 5000).astype(np.uint8).tobytes()
    tensor = Tensor(0, (50, 10, 10, 1), "uint8")
    assert codec.compress(data) == codec.compress(data)
    assert codec.compress(data, tensor) == codec.compress(data, tensor)


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
    plain, tensor = shard_of(np.random.default_rng(7).integers(0, 5, (60, 8, 8, 1), np.uint8))
    whole = codec.compress(plain, tensor)
    for bit in np.random.default_rng(8).integers(0, 8 * len(whole), 200):
        packed = bytearray(whole)
        packed[bit // 8] ^= 1 << bit % 8
        try:
            assert codec.decompress(bytes(packed), len(plain)) == plain or len(packed) == len(plain)
        except ValueError:
            continue


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
    size = BOMB * large(codec) // LARGE
    bomb, small = codec.compress(bytes(size), Tensor(0, (size >> 10, 32, 32, 1), "uint8")), codec.compress(b"small")
    tracemalloc.start()
    try:
        for packed, promised in ((bomb, 10), (bomb, size - 1), (small, 1 << 40)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(ValueError, match=r"\S"):
                codec.decompress(packed, promised)
            used = tracemalloc.get_traced_memory()[1] - before
            assert used < LITTLE_MEMORY, f"refusing {len(packed)} bytes for {promised} took {used} bytes of memory"
    finally:
        tracemalloc.stop()


def check_safe_in_threads(codec: Codec) -> None:
    """Many threads at once get what one gets."""
    random = np.random.default_rng(3)
    data = [random.integers(0, 1 + k, 20_000 + k).astype(np.uint8).tobytes() for k in range(48)]

    def there_and_back(plain: bytes) -> bytes:
        return codec.decompress(codec.compress(plain, Tensor(0, (20, 30, 30, 1), "uint8")), len(plain))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(there_and_back, data)) == data


def check_works_on_the_calling_thread(codec: Codec) -> None:
    """Threads of its own would take cores that other shards have, and hide its cost from the trials."""
    plain = np.random.default_rng(9).integers(0, 9, 1 << 18).astype(np.uint8).tobytes()
    begun, all_begun = time.thread_time(), time.process_time()
    codec.decompress(codec.compress(plain, Tensor(0, (256, 32, 32, 1), "uint8")), len(plain))
    assert time.thread_time() - begun > 0.5 * (time.process_time() - all_begun) - 0.005


def check_a_damaged_shard_is_named(codec: Codec) -> None:
    """Through `shards.unpack`, which finds codecs by name, each damage is a CorruptObject with its name."""
    name = next((name for name in CODECS.names() if CODECS.get(name) is codec), None)
    if name is None:
        pytest.skip("not registered: shards.unpack finds codecs by name")
    plain, tensor = shard_of(np.random.default_rng(4).integers(0, 4, (100, 6, 5, 1), np.uint8))
    packed, digest = codec.compress(plain, tensor), shards.digest(plain)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 4
    for bad in (bytes(flipped), packed[:-1], packed + b"\0", b"", b"no shard"):
        with pytest.raises(CorruptObject, match=r"datasets/d/shards/s is corrupt.*delete that object and run again"):
            shards.unpack(bad, name, len(plain), digest, "datasets/d/shards/s")
    assert shards.unpack(packed, name, len(plain), digest, "k") == plain


CHECKS = (
    check_round_trip_of_bytes,
    check_round_trip_of_arrays,
    check_round_trip_of_shards,
    check_a_tensor_is_a_hint,
    check_round_trip_of_extremes,
    check_compress_is_pure,
    check_damage_is_never_silent,
    check_cut_and_extended_objects_are_refused,
    check_another_size_than_promised_is_refused,
    check_bombs_do_not_go_off,
    check_safe_in_threads,
    check_works_on_the_calling_thread,
    check_a_damaged_shard_is_named,
)
