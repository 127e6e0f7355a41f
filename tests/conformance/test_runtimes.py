"""Every runtime of the registry through its published suite; TensorFlow makes the models, once."""

from __future__ import annotations

import pytest

from infra.runtimes import RUNTIMES
from infra.testing import runtime_suite

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("check", runtime_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", RUNTIMES.names())
def test_runtime(name, check, request):
    if name == "tflite_runtime":
        request.getfixturevalue("tflite_set")
    runtime = RUNTIMES.get(name)
    check(runtime, runtime_suite.example_of(name, runtime))


def test_a_runtime_without_an_example_says_what_to_add():
    with pytest.raises(LookupError, match=r"'new' has no model .* `example\(\)`"):
        runtime_suite.example_of("new", RUNTIMES.get("litert"))


def test_a_damaged_saved_model_is_refused():
    """Its tar is whole, so it is TensorFlow that notices: the checksum of the weights fails."""
    runtime = RUNTIMES.get("tensorflow")
    model = bytearray(runtime_suite.example_of("tensorflow", runtime).model)
    weights = model.index(b"saved_model/variables/variables.data") + 512
    for offset in (0, 200):
        model[weights + offset] ^= 1
    with pytest.raises(runtime_suite.ModelRefused, match="cannot load this model"):
        runtime.load(bytes(model), 4)
