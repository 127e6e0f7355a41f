"""`cloudedge codecs`: the table, the picture and the JSON of one dataset; no server."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from cloudedge.__main__ import cli
from data_catalog.errors import BadRecord, StoreFull, UnknownName
from infra.codecs import CODECS

pytestmark = pytest.mark.unit

SERIES = """
description: A made-up series
license: none
format: npy
sources: [{{ site: edge-1, uri: "{folder}/series.npy" }}, {{ site: edge-2, uri: "{folder}/none.npy" }}]
record: {{ shape: [128, 2], dtype: int16 }}
shard_rows: 200
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLOUDEDGE_CATALOG", raising=False)
    steps = np.random.default_rng(1).integers(-3, 4, (300, 128, 2))
    np.save(tmp_path / "series.npy", steps.cumsum(axis=1).astype(np.int16))
    np.save(tmp_path / "none.npy", np.zeros((0, 128, 2), np.int16))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "series.yaml").write_text(SERIES.format(folder=tmp_path))
    return tmp_path


def call(folder, *arguments):
    words = ["codecs", "--dataset", "series", "--catalog", str(folder), *arguments]
    return CliRunner().invoke(cli, words, catch_exceptions=False, env={"COLUMNS": "140"})


def test_json_has_every_codec_and_the_best_for_each_link(folder):
    found = json.loads(call(folder, "--json").stdout)
    codecs = {codec["codec"]: codec for codec in found["codecs"]}
    assert {*codecs, *found["left_out"]} == set(CODECS.names())
    assert set(found["best"]) == {"1 Mbit/s", "10 Mbit/s", "100 Mbit/s", "1,000 Mbit/s"}
    for link, best in found["best"].items():
        assert codecs[best]["seconds_a_gigabyte"][link] <= 1.5 * 1.05 * min(
            c["seconds_a_gigabyte"][link] for c in codecs.values()
        )
    assert codecs["none"]["ratio"] == 1
    assert codecs["none"]["seconds_a_gigabyte"]["1 Mbit/s"] == pytest.approx(8000)
    assert codecs["delta_zstd"]["ratio"] > codecs["zstd"]["ratio"], "the command tells codecs where the numbers lie"
    assert 200 * 128 * 2 * 2 < found["sample_bytes"] < 210 * 128 * 2 * 2, "a shard as the run would cut it"


def test_the_table_names_the_picture_and_the_picture_is_whole(folder):
    picture = folder / "new" / "codecs.svg"
    out = call(folder, "--picture", str(picture)).stdout
    assert f"picture: {picture}" in out
    assert "left out: png has no other way" in out
    drawn = ElementTree.parse(picture).getroot()
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1 Mbit/s", "1,000 Mbit/s", "none", "delta_zstd", "transfer"} <= set(texts)
    assert "href" not in picture.read_text()


def test_what_cannot_be_compared_is_said(folder):
    with pytest.raises(UnknownName, match="no source is called 'edge-3'"):
        call(folder, "--source", "edge-3")
    with pytest.raises(BadRecord, match=r"source edge-2 .* no record"):
        call(folder, "--source", "edge-2")
    with pytest.raises(StoreFull, match="--picture"):
        call(folder, "--picture", str(folder / "series.npy" / "x.svg"))
