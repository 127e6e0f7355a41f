"""What a `.tflite` says of itself, against the runtime's own reader; and that damaged ones are refused in one line."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.errors import ModelRefused
from infra import flatbuffer, shelf

pytestmark = pytest.mark.unit

BYTES = 17080
MODEL = shelf.unpack((Path(__file__).parents[1] / "frozen" / "model.packed").read_bytes(), BYTES, "model.packed")


def changed(change) -> bytes:
    """The model after `change` of its object tree."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(MODEL), 0)
    change(tree)
    builder = flatbuffers.Builder(BYTES)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def set_version(tree, version: str) -> None:
    for one in tree.metadata:
        if one.name == b"min_runtime_version":
            tree.buffers[one.buffer].data = version.encode().ljust(16, b"\0")


def test_it_reads_what_the_runtime_reads():
    said = flatbuffer.read(MODEL)
    tree = schema.ModelT.InitFromPackedBuf(bytearray(MODEL), 0)
    assert said.operators == tuple(
        flatbuffer.Operator(max(code.builtinCode, code.deprecatedBuiltinCode), code.version)
        for code in tree.operatorCodes
    )
    assert said.custom_operators == ()
    interpreter = Interpreter(model_content=MODEL)
    for tensors, details in (
        (said.inputs, interpreter.get_input_details()),
        (said.outputs, interpreter.get_output_details()),
    ):
        assert [(t.name, t.shape, t.dtype) for t in tensors] == [
            (d["name"], tuple(d["shape_signature"]), d["dtype"].__name__) for d in details
        ]
    named = interpreter.get_signature_list()
    assert {name: {"inputs": [*s.inputs], "outputs": [*s.outputs]} for name, s in said.signatures.items()} == named
    (signature,) = said.signatures.values()
    assert [*signature.inputs.values()] == [*said.inputs]


def test_weights_are_where_the_interpreter_finds_them():
    interpreter = Interpreter(model_content=MODEL)
    found = {MODEL[place.start : place.end] for place in flatbuffer.weights(MODEL)}
    constants = {
        interpreter.get_tensor(tensor["index"]).tobytes()
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"].__name__ == "float16"
    }
    assert len(constants) == 6, "kernel and bias of three layers"
    assert constants <= found
    assert {place.width for place in flatbuffer.weights(MODEL)} == {2, 4}


def test_the_lowest_runtime_is_what_the_converter_wrote():
    assert flatbuffer.lowest_runtime(MODEL) == flatbuffer.read(MODEL).min_runtime_version == "1.15.0"
    assert flatbuffer.lowest_runtime(changed(lambda tree: set_version(tree, "2.17.0"))) == "2.17.0"
    assert flatbuffer.as_numbers("2.17.0") > flatbuffer.as_numbers("2.9.0") > flatbuffer.as_numbers("")


def test_a_file_without_the_field_does_not_say():
    assert flatbuffer.lowest_runtime(changed(lambda tree: setattr(tree, "metadata", []))) == ""


def test_custom_operators_are_named():
    def add(tree) -> None:
        tree.operatorCodes[0].builtinCode = flatbuffer.CUSTOM
        tree.operatorCodes[0].deprecatedBuiltinCode = flatbuffer.CUSTOM
        tree.operatorCodes[0].customCode = b"Convolution2DTransposeBias"

    assert flatbuffer.read(changed(add)).custom_operators == ("Convolution2DTransposeBias",)


@pytest.mark.parametrize(("dtype", "written", "lowest"), [
    ("float32", "2.9.0", "2.9.0"), ("int16", "2.9.0", "2.15.0"), ("int16", "2.17.0", "2.17.0"),
])  # fmt: skip
def test_gelu_of_int16_needs_more_than_the_converter_says(dtype, written, lowest):
    def add(tree) -> None:
        graph = tree.subgraphs[0]
        code = tree.operatorCodes[graph.operators[-1].opcodeIndex]
        code.builtinCode, code.deprecatedBuiltinCode = flatbuffer.GELU, 127
        graph.tensors[graph.operators[-1].inputs[0]].type = flatbuffer.DTYPES.index(dtype)
        set_version(tree, written)

    assert flatbuffer.lowest_runtime(changed(add)) == lowest


@pytest.mark.parametrize(
    "model", [b"", b"no model", bytes(99), b"\xff" * 4 + b"TFL3" + bytes(20), MODEL[:100], MODEL[4:]]
)
def test_what_is_no_model_is_refused_in_one_line(model):
    for reading in (flatbuffer.read, flatbuffer.weights, flatbuffer.lowest_runtime):
        with pytest.raises(ModelRefused, match=r"^this is no TensorFlow Lite model, or a damaged one \(.+\)$"):
            reading(model)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_models_are_read_or_refused(data):
    model = bytearray(MODEL)
    tables = st.integers(0, 700) | st.integers(BYTES - 3500, BYTES - 1)  # what lies around the weights
    for at in data.draw(st.lists(tables, min_size=1, max_size=20)):
        model[at] = data.draw(st.sampled_from((0, 1, 4, 127, 128, 255)))
    cut = bytes(model[: data.draw(st.just(BYTES) | st.integers(0, BYTES))])
    for reading in (flatbuffer.read, flatbuffer.weights):
        try:
            places = reading(cut)
        except ModelRefused as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        if isinstance(places, list):
            ends = [0, *(place.end for place in places)]
            assert all(end <= place.start and place.end <= len(cut) for end, place in zip(ends, places, strict=False))


def test_a_file_whose_parts_lie_one_over_another_is_refused_soon():
    """Many tensors with one long name would cost its length squared."""

    def overlap(tree) -> None:
        tree.subgraphs[0].tensors[0].name = b"x" * 60_000

    model = bytearray(changed(overlap))
    file = flatbuffer._File(bytes(model))
    graph = file.tables(file.root(), 2)[0]
    start, count = file.vector(graph, 0, 4)
    long = max(range(count), key=lambda i: len(file.text(file.tables(graph, 0)[i], 3)))
    target = file.tables(graph, 0)[long]
    for i in range(count):
        at = start + 4 * i
        if target > at:
            model[at : at + 4] = (target - at).to_bytes(4, "little")
    with pytest.raises(ModelRefused, match="one over another"):
        flatbuffer.read(bytes(model))
