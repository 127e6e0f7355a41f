"""A seeded share of `benchmarks.fuzz`: every reader and codec, malformed inputs, no bad end."""

from __future__ import annotations

import pytest

from benchmarks import _fuzz_inputs, fuzz
from infra.codecs import CODECS
from infra.readers import READERS

pytestmark = pytest.mark.property

CHEAP_TRAPS = [number for number, trap in enumerate(_fuzz_inputs.traps()) if "bomb" not in trap.name]
DAMAGED = range(1000, 1200)


def test_no_malformed_input_ends_badly():
    outcomes = fuzz.fuzz([*CHEAP_TRAPS, *DAMAGED], seed=11, seconds=300)  # a busy machine is no hang
    assert len(outcomes) == len(CHEAP_TRAPS) + len(DAMAGED)
    assert [(outcome, detail) for outcome, detail in outcomes if outcome in fuzz.BAD or outcome == "broken"] == []
    assert {"refused", "quarantined"} <= {outcome for outcome, _ in outcomes}


def test_every_reader_and_codec_is_fuzzed(tmp_path):
    made = _fuzz_inputs.targets(tmp_path)
    assert {target.plug_in for target in made if target.kind == "reader"} == set(READERS.names())
    assert {target.plug_in for target in made if target.kind == "codec"} == set(CODECS.names())
    assert len(made) <= len(DAMAGED)
