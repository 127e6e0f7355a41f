"""What each transform computes, against the library or the formula that it follows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from infra.transforms import TRANSFORMS

pytestmark = pytest.mark.unit

RANDOM = np.random.default_rng(5)
COLOUR = RANDOM.integers(0, 256, (3, 12, 18, 3)).astype(np.uint8)
GREY = COLOUR[..., :1]


def apply(name, x, **settings):
    return TRANSFORMS.get(name).apply(x, **settings)


def by_pillow(x, size, method):
    return np.stack([np.asarray(Image.fromarray(image[..., 0]).resize(size, method)) for image in x])[..., None]


def test_grey_is_pillows():
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in COLOUR])
    np.testing.assert_array_equal(apply("grey", COLOUR)[..., 0], expected)
    assert np.abs(apply("grey", COLOUR.astype(np.float32))[..., 0] - expected).max() <= 0.5


@pytest.mark.parametrize("size", [(9, 6), (5, 7), (1, 1), (18, 12), (20, 30)])
def test_area_is_pillows_box_filter(size):
    if size[0] > 18:  # growing, a box filter repeats pixels in Pillow and shares them out here; the mean stays
        grown = apply("resize", GREY.astype(np.float64), height=size[1], width=size[0])
        np.testing.assert_allclose(grown.mean(axis=(1, 2)), GREY.mean(axis=(1, 2)))
        return
    ours = apply("resize", GREY, height=size[1], width=size[0])
    exact = apply("resize", GREY.astype(np.float64), height=size[1], width=size[0])
    assert np.abs(ours - exact).max() <= 0.5001
    if 18 % size[0] == 12 % size[1] == 0:
        boxes = GREY[..., 0].reshape(3, size[1], 12 // size[1], size[0], 18 // size[0]).mean(axis=(2, 4))
        np.testing.assert_allclose(exact[..., 0], boxes)
        assert np.abs(ours.astype(int) - by_pillow(GREY, size, Image.Resampling.BOX)).max() <= 1


def test_bilinear_is_pillows_where_it_enlarges():
    ours = apply("resize", GREY, height=31, width=40, method="bilinear").astype(int)
    assert np.abs(ours - by_pillow(GREY, (40, 31), Image.Resampling.BILINEAR)).max() <= 1


def test_crop_takes_the_middle_or_the_place():
    np.testing.assert_array_equal(apply("crop", COLOUR, height=5, width=4), COLOUR[:, 3:8, 7:11])
    np.testing.assert_array_equal(apply("crop", COLOUR, height=2, width=18, top=10, left=0), COLOUR[:, 10:])
    with pytest.raises(ValueError, match="does not lie in 12 x 18"):
        apply("crop", COLOUR, height=13, width=4)


def test_one_hot():
    x = np.array([[5, 1, 7], [6, 3, 7]], np.int16)
    np.testing.assert_array_equal(apply("one_hot", x, column=1, values=[3, 1]), [[5, 0, 1, 7], [6, 1, 0, 7]])
    with pytest.raises(ValueError, match="holds 3, which"):
        apply("one_hot", x, column=1, values=[1])


def test_a_tone_has_its_amplitude_at_its_frequency():
    time = np.arange(64) / 64
    x = np.stack([3 + 2 * np.cos(2 * np.pi * 8 * time), 5 * np.sin(2 * np.pi * 20 * time)])
    magnitude = apply("fft", x)
    assert magnitude.shape == (2, 33)
    assert np.argsort(magnitude[0])[-2:].tolist() == [8, 0]
    np.testing.assert_allclose(magnitude[0, [0, 8]], [3, 1], rtol=1e-6)
    np.testing.assert_allclose(magnitude[1, 20], 2.5, rtol=1e-6)
    np.testing.assert_allclose(apply("fft", x, scale="power")[1, 20], 6.25, rtol=1e-6)
    channels = apply("fft", np.stack([x[:1].T, x[1:].T]).reshape(2, 64, 1), window="hann", scale="log")
    assert channels.shape == (2, 33, 1)
    np.testing.assert_allclose(channels[:, [8, 20], 0].diagonal(), 10 * np.log10([1, 6.25]), atol=1e-4)
    assert apply("fft", np.zeros((1, 8)), scale="log").min() == -120
    bands = apply("fft", x, scale="power", bands=4)  # of 8, 8, 8 and 9 frequencies
    np.testing.assert_allclose(bands, [[9 / 8, 1 / 8, 0, 0], [0, 0, 6.25 / 8, 0]], atol=1e-9)


@pytest.mark.parametrize("by", ["value", "channel", "all"])
def test_normalised_values_have_mean_0_and_deviation_1_or_fill_the_range(by):
    x = RANDOM.normal(40, 7, (500, 6, 2)) * [1, 20]
    axes = {"value": 0, "channel": (0, 1), "all": None}[by]
    normalise = TRANSFORMS.get("normalise")
    statistics = normalise.fit([x[:123], x[123:]], by=by)
    y = normalise.apply(x, statistics=statistics, by=by)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=axes), 1, atol=1e-4)
    limits = normalise.fit([x], by=by, method="range", dtype="uint8")
    y = normalise.apply(x, statistics=limits, by=by, method="range", dtype="uint8")
    assert y.dtype == np.uint8
    assert np.all(y.min(axis=axes) == 0)
    assert np.all(y.max(axis=axes) == 255)
    outside = normalise.apply(x[:1] * 0 + 1e9, statistics=limits, by=by, method="range", dtype="uint8")
    assert np.all(outside == 255)


def test_what_never_varies_becomes_nothing_and_no_error():
    normalise = TRANSFORMS.get("normalise")
    x = np.full((4, 3), 0.1)
    for method in ("standard", "range"):
        y = normalise.apply(x, statistics=normalise.fit([x[:1], x[1:]], method=method), method=method)
        np.testing.assert_allclose(y, 0, atol=1e-6)


def test_windows_and_their_labels():
    regroup = TRANSFORMS.get("window").regroup
    x, labels = np.arange(10)[:, None], np.array(list("aabbbbccca"))
    made = regroup(x, labels, size=4, step=3, label="majority")
    assert made.x[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert made.first.tolist() == [0, 3, 6]
    assert made.labels.tolist() == ["a", "b", "c"]
    assert made.used == 9
    assert regroup(x, labels, size=4, step=3, label="last").labels.tolist() == ["b", "c", "a"]
    assert regroup(x, labels, size=4, label="first").labels.tolist() == ["a", "b"]


def test_views_are_shifts_mirrors_and_noise():
    augment = TRANSFORMS.get("augment").augment
    seeds = np.arange(300, dtype=np.uint64) * 977
    x = np.tile(np.arange(20, dtype=np.int16)[:, None], (300, 1, 1))
    moved = augment(x, seeds, shift=2)[:, 5:15, 0] - x[:, 5:15, 0]
    assert np.all(moved == moved[:, :1])
    assert set(moved[:, 0].tolist()) == {-2, -1, 0, 1, 2}
    turned = augment(x, seeds, flip=True)
    backwards = (turned == x[:, ::-1]).all(axis=(1, 2))
    assert np.all(backwards | (turned == x).all(axis=(1, 2)))
    assert 100 < backwards.sum() < 200
    noise = augment(np.zeros((300, 50), np.float32), seeds, noise=3.0)
    assert abs(noise.std() - 3) < 0.1
    assert abs(noise.mean()) < 0.1
    np.testing.assert_array_equal(augment(x, seeds), x)
