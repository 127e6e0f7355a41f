"""Codecs against objects that someone forged: the frame is right and its content is not."""

from __future__ import annotations

import resource

import imagecodecs
import numpy as np
import pyarrow as pa
import pytest

from infra import shards
from infra.codecs import CODECS, Tensor, _zstandard
from infra.codecs._frame import LENGTH, describe, described, seal, unseal

pytestmark = pytest.mark.unit

FRAMED = ["lz4", "brotli", "brotli_11", "lzw", "lzma"]
DESCRIBED = [
    "shuffle_zstd",
    "bitshuffle_zstd",
    "delta_zstd",
    "zstd_dictionary",
    "png",
    "webp",
    "jpegls",
    "jpegxl",
    "jpeg",
]
LITTLE = 64 << 10  # KiB of resident memory


@pytest.mark.parametrize("name", FRAMED)
def test_a_frame_whose_content_is_longer_or_shorter_than_it_says_is_refused(name):
    codec = CODECS.get(name)
    for length in (0, 9, 11, 64 << 20):
        body = unseal(codec.compress(bytes(length)), length)
        with pytest.raises(ValueError, match=r"\S"):
            codec.decompress(seal(10, body), 10)


@pytest.mark.parametrize("name", [*FRAMED, *DESCRIBED])
def test_a_frame_of_nonsense_is_refused(name):
    codec = CODECS.get(name)
    random = np.random.default_rng(1)
    heads = [b"", describe(None), describe(Tensor(0, (4, 5, 5, 1), "uint8")), describe(Tensor(3, (90,), "uint8"))]
    for length in (0, 1, 7, 40, 300):
        for head in heads:
            body = head + random.bytes(length)
            try:
                assert len(codec.decompress(seal(100, body), 100)) == 100  # what it says, if it says anything
            except ValueError:
                continue


@pytest.mark.parametrize(
    "text",
    [b'[0, [1000000], "uint8"]', b'[-1, [2], "uint8"]', b'[0, [2], "complex64"]', b"[0]", b"{", b'[0, [[2]], "uint8"]'],
)
def test_a_description_that_does_not_fit_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        described(LENGTH.pack(len(text)) + text + b"rest", 100)


@pytest.mark.parametrize("coder", ["png", "jpegls", "jpegxl"])
def test_an_image_larger_than_its_place_is_refused_before_it_is_decoded(coder):
    side = 12_000
    image = getattr(imagecodecs, f"{coder}_encode")(
        np.zeros((side, side), np.uint8), **({"effort": 1} if coder == "jpegxl" else {})
    )
    tensor = Tensor(0, (4, 5, 5, 1), "uint8")
    forged = seal(100, describe(tensor), LENGTH.pack(len(image)), image, _zstandard.pack(b"", 3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="shape"):
        CODECS.get(coder).decompress(forged, 100)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LITTLE


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_the_tensor_of_a_shard_is_where_its_numbers_are(dtype):
    x = np.arange(5 * 3 * 2).reshape(5, 3, 2).astype(dtype)
    plain = shards.encode(pa.array(list("abcde")), x)
    tensor = shards.tensor(plain)
    assert (tensor.shape, tensor.dtype) == (x.shape, dtype)
    assert plain[tensor.start : tensor.start + tensor.bytes] == x.tobytes()
    assert shards.unpack(shards.pack(plain, "delta_zstd"), "delta_zstd", len(plain), shards.digest(plain), "k") == plain


def test_codecs_that_know_images_and_numbers_use_the_tensor():
    rows = np.arange(64)
    smooth = 2 * np.add.outer(np.add.outer(rows, np.arange(32)), np.arange(32))
    images = (smooth + np.random.default_rng(3).integers(0, 4, smooth.shape)).astype(np.uint8)[..., None]
    series = np.cumsum(np.cumsum(np.ones((20, 500, 3)), 1), 1).astype(np.int32)
    for name, x in [("png", images), ("jpegls", images), ("jpegxl", images), ("webp", images.repeat(3, 3)), ("delta_zstd", series), ("shuffle_zstd", series), ("bitshuffle_zstd", series)]:  # fmt: skip
        plain = shards.encode(pa.array([str(row) for row in range(len(x))]), x)
        codec = CODECS.get(name)
        packed = codec.compress(plain, shards.tensor(plain))
        assert described(unseal(packed, len(plain)), len(plain))[0] == shards.tensor(plain)
        assert len(packed) < len(codec.compress(plain))


def test_a_jpeg_larger_than_its_place_is_refused_before_it_is_decoded():
    image = imagecodecs.jpeg8_encode(np.zeros((12_000, 12_000), np.uint8))
    parts = (b"\xf0", LENGTH.pack(len(image)), image, _zstandard.pack(b"", 3))
    forged = seal(4 * 64, describe(Tensor(0, (4, 8, 8, 1), "uint8")), *parts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="shape"):
        CODECS.get("jpeg").decompress(forged, 4 * 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LITTLE
