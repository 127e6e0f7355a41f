"""`generated://` sources: what is written, once, and what a wrong URI is told."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.errors import CatalogError, UnknownName
from infra import storage
from infra.generators import bearing_vibration, chest_xray

pytestmark = pytest.mark.unit


def test_a_file_is_written_once_and_each_uri_has_its_own(tmp_path):
    uri = "generated://chest_xray/x.npz?rows=20&seed=1"
    path = storage.local_copy(uri, tmp_path)
    written = path.stat().st_mtime_ns
    assert storage.local_copy(uri, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert storage.local_copy(uri.replace("seed=1", "seed=2"), tmp_path) != path
    assert [file.name for file in path.parent.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    "uri",
    [
        "generated://chest_xray/x.npz",
        "generated://chest_xray/x.npz?rows=20",
        "generated://chest_xray/x.npz?rows=0&seed=1",
        "generated://chest_xray/x.npz?rows=-3&seed=1",
        "generated://chest_xray/x.npz?rows=9999999999999&seed=1",
        "generated://chest_xray/x.npz?rows=20&seed=1&colour=red",
        "generated://chest_xray/x.csv?rows=20&seed=1",
        "generated://chest_xray/.npz?rows=20&seed=1",
        "generated://chest_xray/../../x.npz?rows=20&seed=1",
    ],
)
def test_a_wrong_uri_is_told_the_right_form(tmp_path, uri):
    with pytest.raises(CatalogError, match=r"write generated://chest_xray/<name>\.npz"):
        storage.local_copy(uri, tmp_path)
    assert list(tmp_path.rglob("*.npz")) == []


def test_an_unknown_generator_is_told_the_nearest_name(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'chest_xray'"):
        storage.local_copy("generated://chest_xrays/x.npz?rows=20&seed=1", tmp_path)


def test_the_pictures_are_in_medmnists_layout(tmp_path):
    with np.load(storage.local_copy("generated://chest_xray/x.npz?rows=200&seed=1", tmp_path)) as file:
        arrays = dict(file)
    assert list(arrays) == [f"{part}_{what}" for part in ("train", "val", "test") for what in ("images", "labels")]
    for part, count in (("train", 160), ("val", 20), ("test", 20)):
        assert arrays[f"{part}_images"].shape == (count, 64, 64)
        assert arrays[f"{part}_labels"].shape == (count, 1)
        assert arrays[f"{part}_images"].dtype == arrays[f"{part}_labels"].dtype == np.uint8


def test_a_finding_makes_lungs_brighter():
    random = np.random.default_rng(0)
    normal, ill = (chest_xray.pictures(np.full(200, label, np.uint8), random) for label in (0, 1))
    lungs = (slice(None), slice(20, 45), slice(14, 50))
    assert ill[lungs].mean() > normal[lungs].mean() + 1


@pytest.mark.parametrize("state", bearing_vibration.STATES)
def test_damage_rings_at_its_frequency(state):
    """The envelope of the signal repeats with each pass of the damage; a healthy bearing's does not."""
    random = np.random.default_rng(3)
    signal = bearing_vibration.recording(state, random)[:, 0].astype(float)
    spectrum = np.fft.rfft(signal)
    frequencies = np.fft.rfftfreq(len(signal), 1 / bearing_vibration.RATE)
    spectrum[(frequencies < 2000) | (frequencies > 5000)] = 0
    envelope = np.abs(np.fft.rfft(np.fft.irfft(spectrum) ** 2))
    passes, load, _ = bearing_vibration.DAMAGE.get(state, (3.5848, 0.0, 0.0))
    near = (frequencies > passes * 28.3) & (frequencies < passes * 30.7)
    band = (frequencies > 60) & (frequencies < 400)
    peak = envelope[near].max() / np.median(envelope[band])
    assert peak > 6 if state in bearing_vibration.DAMAGE else peak < 5, load
