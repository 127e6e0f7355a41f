"""The shelf form of a model: any bytes come back, nothing that is damaged does, and weights cost their entropy."""

from __future__ import annotations

import hashlib
import lzma
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.shelf_dictionary import KINDS, conversions
from data_catalog.errors import CorruptObject
from infra import shelf
from infra.recipes import import_tensorflow
from infra.shelf import _numbers, _skeleton
from infra.shelf._coder import Decoder, Encoder

pytestmark = pytest.mark.property

FROZEN = Path(__file__).parents[1] / "frozen"
# What `pack` and `delta` of the first release gave for a net of clustered float16 weights; must be readable for ever.
FROZEN_BYTES = 17080
FROZEN_DIGEST = "2eb5fde2020e0bd97b62e5f6f704b9f76abdb1a2daf3b71e9bb734189d18eaab"
FROZEN_NEXT_BYTES = 17080
FROZEN_NEXT_DIGEST = "8311262fc41df93c6ca4e60c03a1cf557bac26986aa9c84993043f42c69f6319"
FEW = settings(max_examples=12)
LITTLE_MEMORY = 4 << 20  # what refusing a bomb may allocate: far less than the bomb
ARRAYS = st.sampled_from(("uint8", "uint16", "uint32", "uint64")).flatmap(
    lambda dtype: (
        hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
            fill=st.integers(0, 2),
            elements={"max_value": 255},
        )
        | hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    )
)


def small_net(kept: float, codes: int, seed: int = 0):
    """A net of one convolution and two dense layers with random weights: `kept` of them, of `codes` values."""
    tf = import_tensorflow()
    tf.keras.backend.clear_session()
    layers = tf.keras.layers
    image = x = tf.keras.Input((12, 12, 1))
    x = layers.Flatten()(layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x)))
    net = tf.keras.Model(image, layers.Dense(10)(layers.Dense(32, activation="relu")(x)))
    random = np.random.default_rng(seed)
    for layer in net.layers:
        if layer.weights:
            shape = layer.kernel.shape
            book = np.sort(random.normal(size=codes)).astype(np.float32) / 4
            kernel = book[random.integers(0, codes, shape)] if codes else random.normal(size=shape) / 4
            bias = random.normal(size=layer.bias.shape)
            layer.set_weights([np.where(random.random(shape) < kept, kernel, 0), bias])
    return net


@pytest.fixture(scope="module")
def models():
    """Real `.tflite` files by name: dense, pruned, and pruned and clustered, in each form of the converter."""
    made = {}
    for name, kept, codes in (("dense", 1.0, 0), ("pruned", 0.1, 0), ("clustered", 0.1, 14)):
        kinds = {"dense": KINDS, "pruned": ("float32",), "clustered": ("float32", "float16", "int8")}[name]
        for kind, model in zip(kinds, conversions(small_net(kept, codes), kinds), strict=True):
            made[f"{name}-{kind}"] = model
    return made


def best_byte_coder(data: bytes) -> int:
    """Bytes that the better of zstd -19 and raw LZMA makes of it."""
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 0, "lp": 0, "pb": 0}]
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    return min(len(packed), len(zstandard.ZstdCompressor(level=19).compress(data)))


@given(st.binary(max_size=4096))
def test_any_bytes_come_back(data):
    assert shelf.unpack(shelf.pack(data), len(data), "key") == data


def test_real_models_come_back_and_are_smaller_than_any_byte_coder_makes_them(models):
    for name, model in models.items():
        packed = shelf.pack(model)
        assert shelf.unpack(packed, len(model), name) == model
        assert len(packed) < best_byte_coder(model), name
        if name.startswith("clustered-float"):
            assert len(packed) < 0.75 * best_byte_coder(model), name


def test_pruned_and_clustered_weights_cost_their_entropy(models):
    """Of where they are, and of which value each has; 8 % more for what is learnt, and the codebook."""
    random = np.random.default_rng(1)
    nonzero = random.random(40_000) < 0.02
    a = np.where(nonzero, random.integers(1, 15, 40_000) * 77_777, 0).astype(np.uint32)
    coder = Encoder()
    _numbers.array(coder, a, 100)
    share = nonzero.mean()
    places = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * a.size / 8
    assert len(coder.finish()) < 1.08 * (places + nonzero.sum() * np.log2(14) / 8) + 14 * 4


@FEW
@given(st.data())
def test_mutated_flatbuffers_come_back(models, data):
    model = bytearray(models[data.draw(st.sampled_from(sorted(models)))])
    for at in data.draw(st.lists(st.integers(0, len(model) - 1), max_size=6)):
        model[at] = data.draw(st.integers(0, 255))
    kept = bytes(model[: data.draw(st.integers(0, len(model)) | st.just(len(model)))])
    assert shelf.unpack(shelf.pack(kept), len(kept), "key") == kept


@given(st.binary(max_size=600), st.binary(min_size=1, max_size=40), st.data())
def test_cut_and_extended_objects_are_refused_by_name(plain, tail, draw):
    packed = shelf.pack(plain)
    kept = draw.draw(st.integers(0, len(packed) - 1))
    for bad in (packed + tail, packed[:kept]):
        with pytest.raises(CorruptObject, match=r"^models/m is corrupt.*publish the model again$"):
            shelf.unpack(bad, len(plain), "models/m")


def test_damage_of_a_model_is_never_silent(models):
    """A flipped bit, a cut, a tail: refused by name, or it lay where it changes nothing."""
    model = models["clustered-float16"]
    packed = shelf.pack(model)
    assert packed == shelf.pack(model), "the same model is the same object"
    random = np.random.default_rng(2)
    for bit in random.integers(0, 8 * len(packed), 60):
        bad = bytearray(packed)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            assert shelf.unpack(bytes(bad), len(model), "models/m") == model
        except CorruptObject as error:
            assert str(error).startswith("models/m is corrupt (")  # noqa: PT017
    for bad in (packed[:-1], packed[: len(packed) // 2], packed + b"\0", packed + packed, b"", b"no model"):
        with pytest.raises(CorruptObject, match=r"^models/m is corrupt \(.*\); delete that object"):
            shelf.unpack(bad, len(model), "models/m")


@given(st.binary(max_size=300), st.integers(0, 3), st.integers(0, 5000))
def test_made_up_objects_are_refused(body, form, size):
    """Whatever a body says: with the right head in front there is one clear error, or, if need be, the bytes."""
    head = shelf.pack(bytes(size))[: 4 + (2 if size > 127 else 1)]
    packed = head[:3] + bytes([form]) + head[4:] + body
    with pytest.raises(CorruptObject):
        shelf.unpack(packed, size, "key")
    with pytest.raises(CorruptObject):
        shelf.apply(b"old" * 99, packed, size, "key")


def test_bombs_do_not_go_off():
    size = 16 << 20
    bomb, small = shelf.pack(bytes(size)), shelf.pack(b"small")
    lying = bomb[:4] + b"\x0a" + bomb[8:]  # declares 10 bytes
    tracemalloc.start()
    try:
        for packed, promised in ((bomb, 10), (bomb, size - 1), (small, 1 << 40), (lying, 10)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(CorruptObject):
                shelf.unpack(packed, promised, "key")
            assert tracemalloc.get_traced_memory()[1] - before < LITTLE_MEMORY
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=2048), st.binary(max_size=99), st.integers(0, 2048))
def test_a_delta_gives_the_new_model_and_only_to_who_has_the_old(old, change, at):
    new = old[:at] + change + old[at + len(change) :]
    sent = shelf.delta(old, new)
    assert shelf.apply(old, sent, len(new), "key") == new
    with pytest.raises(CorruptObject, match=r"^models/m is corrupt"):
        shelf.unpack(sent, len(new), "models/m")
    for bad in (sent + b"x", sent[:-1]):
        with pytest.raises(CorruptObject, match=r"^models/m is corrupt or not for this model .*fetch the whole model$"):
            shelf.apply(old, bad, len(new), "models/m")


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_a_delta_of_a_fine_tuned_model_is_smaller_than_the_model(models, kind):
    old = models[f"dense-{kind}"]
    net = small_net(1.0, 0)
    for layer in net.layers:
        weights = [w + np.random.default_rng(5).normal(size=w.shape) / 1000 for w in layer.get_weights()]
        layer.set_weights(weights)
    (new,) = conversions(net, (kind,))
    sent = shelf.delta(old, new)
    assert shelf.apply(old, sent, len(new), "key") == new
    assert len(sent) < 0.8 * len(shelf.pack(new))
    with pytest.raises(CorruptObject, match="not for this model"):
        shelf.apply(models["clustered-float16"], sent, len(new), "models/m")
    assert len(shelf.delta(old, old)) < 80


@given(ARRAYS, st.data())
def test_arrays_come_back_in_every_mode(a, data):
    rows, flat = a.shape[0], a.ravel()
    modes = [_numbers.OPAQUE, _numbers.PLANES] + [_numbers.CODES] * (0 < len(np.unique(flat)) <= _numbers.MOST_CODES)
    mode = data.draw(st.sampled_from(modes)) | data.draw(st.sampled_from((0, _numbers.SPARSE)))
    mode |= data.draw(st.sampled_from((0, _numbers.COLUMNS)))
    if mode & _numbers.SPARSE and not flat.any():
        mode = _numbers.SPARSE | _numbers.PLANES
    coder = Encoder()
    _numbers._as(coder, flat, rows, mode)
    decoder = Decoder(coder.finish())
    np.testing.assert_array_equal(_numbers._as(decoder, np.zeros_like(flat), rows, mode), flat)
    decoder.finish()


@given(ARRAYS, st.data())
def test_a_difference_can_be_undone(a, data):
    old = data.draw(hnp.arrays(a.dtype, a.shape))
    np.testing.assert_array_equal(_numbers.undo(_numbers.difference(a, old), old), a)


@given(
    st.lists(st.integers(0, 1 << 38), max_size=60), st.lists(st.integers(0, 31), max_size=60), st.binary(max_size=80)
)
def test_the_coder_gives_back_what_it_was_given(numbers, symbols, blob):
    encoder = Encoder()
    encoder.numbers(numbers, len(numbers))
    encoder.blob(blob, len(blob))
    encoder.symbols(symbols, len(symbols), 5)
    decoder = Decoder(encoder.finish())
    assert decoder.numbers((), len(numbers)) == numbers
    assert decoder.blob(b"", len(blob)) == blob
    assert decoder.symbols((), len(symbols), 5) == symbols
    decoder.finish()


@given(st.data())
def test_a_file_without_its_regions_can_be_joined_again(data):
    file, gaps, regions = bytearray(), [], []
    for _ in range(data.draw(st.integers(0, 4))):
        gaps.append(data.draw(st.integers(4, 40)))
        length = data.draw(st.integers(0, 60))
        # Small numbers, which may be offsets from one word to another, forward and back.
        words = [data.draw(st.integers(-200, 300)) % (1 << 32) for _ in range(gaps[-1] // 4 + 1)]
        file += np.array(words, "<u4").tobytes()[: gaps[-1] - 4] + length.to_bytes(4, "little")
        regions.append((len(file), len(file) + length))
        file += data.draw(st.binary(min_size=length, max_size=length))
    file += np.array(data.draw(st.lists(st.integers(0, 300), max_size=20)), "<u4").tobytes() + b"tail"
    skeleton = _skeleton.cut(bytes(file), regions)
    assert len(skeleton) == len(file) - sum(end - start for start, end in regions)
    for start, end in regions:
        file[start:end] = bytes(end - start)
    assert _skeleton.join(skeleton, gaps, [1] * len(gaps), len(file)) == file


def test_frozen_objects_can_be_read():
    model = shelf.unpack((FROZEN / "model.packed").read_bytes(), FROZEN_BYTES, "model.packed")
    assert hashlib.sha256(model).hexdigest() == FROZEN_DIGEST
    following = shelf.apply(model, (FROZEN / "model.delta").read_bytes(), FROZEN_NEXT_BYTES, "model.delta")
    assert hashlib.sha256(following).hexdigest() == FROZEN_NEXT_DIGEST


def test_ratios_compare_what_a_model_takes_in_each_form(models):
    model = models["clustered-float32"]
    sizes = shelf.ratios(model)
    assert {"raw": len(model), "packed": len(shelf.pack(model))}.items() <= sizes.items()
    assert sizes["packed"] < min(sizes["zstd-19"], sizes["lzma"]) < max(sizes["zstd-19"], sizes["lzma"]) < sizes["raw"]
