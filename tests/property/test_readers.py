"""Every reader gives back what its own writer wrote, whatever the values, and whatever the size of a block."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.readers import READERS, Holds, _protobuf, strict, tfrecord

pytestmark = pytest.mark.property

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("name", READERS.names())
def test_what_was_written_is_read(name, tmp_path_factory):
    reader = READERS.get(name)
    holds = getattr(reader, "HOLDS", Holds())

    @settings(max_examples=15, deadline=None)
    @given(st.data(), st.sampled_from(holds.dtypes), st.integers(1, 12), st.integers(1, 15))
    def survive(data, dtype, rows, block_rows):
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None
        x = data.draw(hnp.arrays(dtype, (rows, *holds.shape), elements=finite))
        path = tmp_path_factory.mktemp("example") / "example.data"
        record = reader.write_example(path, x, None)
        blocks = list(strict(reader.read(path, record, block_rows), path))
        np.testing.assert_array_equal(np.concatenate([block.x for block in blocks]), x)

    survive()


@given(st.lists(INT64, max_size=40), st.lists(st.floats(width=32), max_size=20), st.binary(max_size=300), st.text())
def test_an_example_of_tensorflow_survives(integers, floats, data, name):
    features = {"i": np.array(integers, np.int64), "f": np.array(floats, np.float32), f"b{name}": data}
    back = _protobuf.example(memoryview(tfrecord.example(features)))
    assert list(back) == list(features)
    assert back["i"].tolist() == integers
    np.testing.assert_array_equal(back["f"], features["f"])
    assert back[f"b{name}"] == [data]


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser(data):
    """It gives features, or says that there are none by a ValueError; never anything else."""
    with suppress(ValueError):
        _protobuf.example(memoryview(data))
