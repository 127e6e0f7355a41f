"""What is particular to CSV: headers, suffixes, and columns that Arrow would guess wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import zstandard

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import csv, strict

pytestmark = pytest.mark.unit


def read(path, block_rows=1000, **schema):
    blocks = list(
        strict(csv.read(path, Schema.model_validate({"shape": (2,), "dtype": "float32"} | schema), block_rows), path)
    )
    labels = None if not blocks or blocks[0].labels is None else [label for block in blocks for label in block.labels]
    return np.concatenate([block.x for block in blocks]).tolist() if blocks else [], labels


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_a_label_by_name_has_a_header_and_may_stand_anywhere(write):
    assert read(write("a,what,b\n1,x,2\n3,y,4\n"), label="what") == ([[1, 2], [3, 4]], ["x", "y"])
    assert read(write("x,1,2\ny,3,4\n"), label=0) == ([[1, 2], [3, 4]], ["x", "y"])


def test_columns_of_one_name_are_two_columns(write):
    assert read(write("a,a,what\n1,2,x\n3,4,y\n"), label="what") == ([[1, 2], [3, 4]], ["x", "y"])


@pytest.mark.parametrize("labels", [["007", "010"], ["1.0", "2.50"], ["true", "false"], ["NA", "1e3", "x"]], ids=str)
def test_labels_are_text_as_it_is_written(write, labels):
    assert read(write("".join(f"1,2,{label}\n" for label in labels)), label=2)[1] == labels


def test_later_rows_may_hold_what_the_first_did_not(write):
    """Fractions after whole numbers, letters after digits, far behind the block from which Arrow guesses."""
    x, labels = read(write("1,2,0\n" * 30_000 + "1.5,2,a\n"), label=2)
    assert x[-1] == [1.5, 2]
    assert (labels[0], labels[-1], len(x)) == ("0", "a", 30_001)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files_are_known_by_their_suffix(tmp_path, suffix):
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    (tmp_path / f"x.csv.{suffix}").write_bytes(pack(b"1,2\n3,4\n"))
    assert read(tmp_path / f"x.csv.{suffix}")[0] == [[1, 2], [3, 4]]


def test_a_header_without_rows_is_no_records(write):
    assert read(write("a,b,what\n"), label="what")[0] == []


@pytest.mark.parametrize(
    ("text", "schema", "says"),
    [
        ("1,2\n3,word\n", {}, "row 1: value \"word\" in 'column 1' is not a number"),
        ("1,2\n3,true\n", {}, "true"),
        ("1,2\n3\n", {}, "row 1: 1 columns where there should be 2"),
        ("1,2\n3,\n", {}, "row 1: no value in 'column 1'"),
        ("1,2,3\n", {}, "row 0: 3 columns where there should be 2"),
        ("a,b\n1,2\n", {"label": "what", "shape": (1,)}, "no column is called 'what'"),
        ("1,2,x\n", {"label": 9}, "no column 9, there are 3"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_row(write, text, schema, says):
    path = write(text)
    with pytest.raises(BadRecord) as caught:
        read(path, **schema)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
