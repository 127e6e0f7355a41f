"""What a `.tflite` says of itself, read with `struct` alone: no runtime is loaded, and nothing is trusted.

The format is FlatBuffers (little-endian; a table begins with the distance back to its vtable, whose entries say where
its fields lie) with the schema of TensorFlow Lite, version 3; a field is named here by its number in that schema.
Every offset is checked, and reading costs no more than a few times the file's size, whatever the file says.
Sources: flatbuffers.dev, "FlatBuffer Internals"; tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from data_catalog.errors import ModelRefused

IDENTIFIER = b"TFL3"
# Names of TensorType, by number; those of numpy where it has one.
DTYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2",
)  # fmt: skip
ITEM_BYTES = {
    "float32": 4, "float16": 2, "int32": 4, "uint8": 1, "int64": 8, "bool": 1, "int16": 2, "complex64": 8, "int8": 1,
    "float64": 8, "complex128": 16, "uint64": 8, "uint32": 4, "uint16": 2, "bfloat16": 2,
}  # fmt: skip
CUSTOM, GELU = 32, 150  # numbers of BuiltinOperator
# The converter writes 2.9.0 for GELU of any version; the kernel of 2.14 has no int16 and fails when it is invoked.
GELU_INT16 = "2.15.0"
READS = 8  # times the file's size: what reading may cost


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a subgraph; `shape` has -1 where a size is free, `buffer` is the number of its constant bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that the graph uses: its number in the schema, its version, and its name if it is a custom one."""

    code: int
    version: int
    custom: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A named entry point: tensors by argument."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Description:
    """What a file says of itself."""

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]  # of the first subgraph
    outputs: tuple[Tensor, ...]
    signatures: dict[str, Signature]
    min_runtime_version: str  # as the converter wrote it; empty where it did not
    int16_gelu: bool

    @property
    def custom_operators(self) -> tuple[str, ...]:
        """Names of operators that a runtime knows only if somebody added them."""
        return tuple(operator.custom for operator in self.operators if operator.custom)


@dataclass(frozen=True, slots=True)
class Weights:
    """Where numbers lie in the file: `count` items of `width` bytes; `row` of them lie along the last axis."""

    start: int
    count: int
    width: int
    row: int

    @property
    def end(self) -> int:
        """The byte behind the last."""
        return self.start + self.count * self.width


def read(model: bytes) -> Description:
    """Describe a `.tflite`.

    Raises:
        ModelRefused: it is none, or it is damaged where this reads.
    """
    with _Refusing():
        file = _File(model)
        tables = file.tables(file.root(), 4)
        codes = [_operator(file, table) for table in file.tables(file.root(), 1)]
        tensors = [_tensors(file, graph) for graph in file.tables(file.root(), 2)]
        graph = file.tables(file.root(), 2)[0]
        signatures = {}
        for table in file.tables(file.root(), 7):
            of = tensors[file.scalar(table, 4, "I")]
            arguments = [
                {file.text(pair, 0): of[file.scalar(pair, 1, "I")] for pair in file.tables(table, side)}
                for side in (0, 1)
            ]
            signatures[file.text(table, 2)] = Signature(*arguments)
        version = ""
        for table in file.tables(file.root(), 6):
            if file.text(table, 0) == "min_runtime_version":
                start, count = file.vector(tables[file.scalar(table, 1, "I")], 0, 1)
                version = model[start : start + count].rstrip(b"\0").decode()
        inputs, outputs = (tuple(tensors[0][i] for i in file.numbers(graph, field, "i") if i >= 0) for field in (1, 2))
        return Description(tuple(codes), inputs, outputs, signatures, version, _int16_gelu(file, codes, tensors))


def lowest_runtime(model: bytes) -> str:
    """The lowest version of the runtime that can be expected to run it, such as `2.3.0`; empty if the file does not say.

    It is what the converter wrote, mended where that is known to be wrong. Files from before 2020 do not say, and
    custom operators (`Description.custom_operators`) have no version: only a load and an invoke prove anything.

    Raises:
        ModelRefused: no `.tflite`.
    """
    description = read(model)
    said = description.min_runtime_version
    return max(said, GELU_INT16, key=as_numbers) if said and description.int16_gelu else said


def as_numbers(version: str) -> tuple[int, ...]:
    """A version to compare: `2.17.0` is above `2.9.0`; what is no number counts as 0."""
    return tuple(int(part) if part.isdecimal() and part.isascii() else 0 for part in version.split("."))


def weights(model: bytes) -> list[Weights]:
    """Constant tensors and scales of quantisation, where they lie in the file, in that order, none over another.

    Raises:
        ModelRefused: no `.tflite`.
    """
    with _Refusing():
        file = _File(model)
        buffers = file.tables(file.root(), 4)
        found: dict[int, Weights] = {}
        for graph in file.tables(file.root(), 2):
            for table, tensor in zip(file.tables(graph, 0), _tensors(file, graph), strict=True):
                width, row = ITEM_BYTES.get(tensor.dtype, 1), tensor.shape[-1] if tensor.shape else 1
                start, count = file.vector(buffers[tensor.buffer], 0, 1)
                found.setdefault(start, Weights(start, count // width, width, row))
                for quantisation in file.table(table, 4):
                    start, count = file.vector(quantisation, 2, 4)
                    found.setdefault(start, Weights(start, count, 4, count))
    apart: list[Weights] = []
    for one in sorted(found.values(), key=lambda one: one.start):
        if one.count and one.row > 0 and (not apart or one.start >= apart[-1].end):
            apart.append(one)
    return apart


class _Refusing:
    """Turns what reading damaged bytes raises into one line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, struct.error | IndexError | ValueError):
            why = " ".join(str(error).split())[:100]
            raise ModelRefused(f"this is no TensorFlow Lite model, or a damaged one ({why})") from error


class _File:
    """Offsets and scalars of the bytes, each checked; a ValueError, IndexError or struct.error where one is wrong."""

    def __init__(self, data: bytes) -> None:
        if data[4:8] != IDENTIFIER:
            raise ValueError("its identifier is not TFL3")
        self.data = data
        self.budget = READS * len(data)

    def root(self) -> int:
        return self._follow(0)

    def scalar(self, table: int, field: int, kind: str, default: int = 0) -> int:
        at = self._field(table, field)
        return int(struct.unpack_from(f"<{kind}", self.data, at)[0]) if at else default

    def vector(self, table: int, field: int, width: int) -> tuple[int, int]:
        """Where the first item lies, and how many there are; (0, 0) for a field that is not there."""
        at = self._field(table, field)
        if not at:
            return 0, 0
        start = self._follow(at)
        (count,) = struct.unpack_from("<I", self.data, start)
        if start + 4 + count * width > len(self.data):
            raise ValueError(f"a vector of {count} items does not lie in the file")
        return start + 4, count

    def numbers(self, table: int, field: int, kind: str) -> tuple[int, ...]:
        width = struct.calcsize(kind)
        start, count = self.vector(table, field, width)
        self._spend(count * width)
        return struct.unpack_from(f"<{count}{kind}", self.data, start)

    def tables(self, table: int, field: int) -> list[int]:
        """Where the tables of a vector lie."""
        start, count = self.vector(table, field, 4)
        self._spend(4 * count)
        return [self._follow(start + 4 * i) for i in range(count)]

    def table(self, table: int, field: int) -> list[int]:
        """Where a table that may be missing lies."""
        at = self._field(table, field)
        return [self._follow(at)] if at else []

    def text(self, table: int, field: int) -> str:
        start, count = self.vector(table, field, 1)
        self._spend(count)
        return self.data[start : start + count].decode("utf-8", "replace")

    def _field(self, table: int, field: int) -> int:
        """Where a field of a table lies; 0 if it has the default."""
        vtable = table - struct.unpack_from("<i", self.data, table)[0]
        if vtable < 0:
            raise ValueError("a table's layout lies outside the file")
        (size,) = struct.unpack_from("<H", self.data, vtable)
        if 4 + 2 * field + 2 > size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, vtable + 4 + 2 * field)
        return table + offset if offset else 0

    def _follow(self, at: int) -> int:
        target = at + int(struct.unpack_from("<I", self.data, at)[0])
        if target + 4 > len(self.data):
            raise ValueError("an offset leads out of the file")
        return target

    def _spend(self, number: int) -> None:
        self.budget -= number
        if self.budget < 0:
            raise ValueError("its parts lie one over another")


def _operator(file: _File, table: int) -> Operator:
    code = max(file.scalar(table, 0, "b"), file.scalar(table, 3, "i"))  # the old field has a byte, the new one four
    return Operator(code, file.scalar(table, 2, "i", 1), file.text(table, 1) if code == CUSTOM else "")


def _tensors(file: _File, graph: int) -> list[Tensor]:
    found = []
    for table in file.tables(graph, 0):
        shape = file.numbers(table, 7, "i") or file.numbers(table, 0, "i")
        kind = file.scalar(table, 1, "b")
        dtype = DTYPES[kind] if 0 <= kind < len(DTYPES) else f"type {kind}"
        found.append(Tensor(file.text(table, 3), shape, dtype, file.scalar(table, 2, "I")))
    return found


def _int16_gelu(file: _File, codes: list[Operator], tensors: list[list[Tensor]]) -> bool:
    """Whether a GELU gets int16."""
    if GELU not in {operator.code for operator in codes}:
        return False
    for graph, of in zip(file.tables(file.root(), 2), tensors, strict=True):
        for table in file.tables(graph, 3):
            if codes[file.scalar(table, 0, "I")].code == GELU and of[file.numbers(table, 1, "i")[0]].dtype == "int16":
                return True
    return False
