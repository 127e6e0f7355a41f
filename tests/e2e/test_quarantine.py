"""A zip of pictures, two of them bad, through the command: they are left out, counted, and the rest answered."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.e2e

PICTURES = 30
DATASET = """
description: Pictures, two of them bad
license: none
sources: [{{ site: edge-1, uri: {uri} }}]
record: {{ shape: [28, 28], dtype: uint8, label: folder }}
transforms: [{{ name: reshape, shape: [28, 28, 1] }}]
on_bad_record: {on_bad_record}
"""


@pytest.fixture
def catalog(tmp_path):
    random = np.random.default_rng(4)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for row in range(PICTURES):
            side = 14 if row == 7 else 28
            sink = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (side, side)).astype(np.uint8)).save(sink, "PNG")
            archive.writestr(f"{row % 3}/{row:02d}.png", sink.getvalue()[: 60 if row == 20 else None])
    for policy in ("quarantine", "fail"):
        (tmp_path / "datasets").mkdir(exist_ok=True)
        text = DATASET.format(uri=tmp_path / "pictures.zip", on_bad_record=policy)
        (tmp_path / "datasets" / f"pictures-{policy}.yaml").write_text(text)
    return tmp_path


def test_bad_pictures_are_left_out_and_counted_on_every_run(quick_run, up_home, up_store, catalog):
    words = ("--model", "quick", "--dataset", "pictures-quarantine", "--catalog", str(catalog))
    first = up_home.run(*words)
    assert first["quarantined_rows"] == 2
    assert first["rows_in"] == first["rows_out"] == PICTURES - 2
    shown = up_home.call("run", *words).stdout
    assert "left out  2 rows that do not fit the schema" in shown
    assert "nothing to compute" in shown
    (key,) = up_store.keys("datasets/pictures-quarantine/quarantine")
    table = pq.read_table(io.BytesIO(up_store.get(key)))
    assert len(table) == 2
    assert any("1/07.png: a picture of shape (14, 14, 1)" in reason for reason in table["reason"].to_pylist())
    page = up_store.get(json.loads(up_store.get(first["report_key"]))["report_key"].replace(".json", ".html")).decode()
    assert "2</b><span>rows left out because they do not fit" in page


def test_the_same_pictures_stop_a_run_that_must_not_leave_any_out(quick_run, up_home, catalog):
    done = up_home.call("run", "--model", "quick", "--dataset", "pictures-fail", "--catalog", str(catalog), code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cloudedge: ")]
    assert "pictures.zip, row " in line
    assert "correct the record or the schema" in line
