"""Valid files of every format, and ways to damage them: the raw material of `benchmarks.fuzz`.

A `Target` is one valid file, made once. `damaged` makes the n-th malformed input of a seed from one of them;
`traps` are those made by hand: bombs, traversal, absurd headers with right checksums, schemas that do not fit.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from PIL import Image

from data_catalog.nouns import Schema
from infra import shards
from infra.codecs import CODECS
from infra.readers import READERS, Holds, _pages, idx, tfrecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 24
SHAPE = (6, 5)
BOMB = 200 << 20  # bytes that a bomb's content would take


@dataclass(frozen=True, slots=True)
class Target:
    """One valid file of a format.

    `kind` is `reader` or `codec`, `plug_in` its name; `path` a file or folder; `damage` the file to damage,
    where that is not `path`. `guarded` are the byte ranges whose every change a checksum of the format covers;
    None: of the whole file.
    """

    name: str
    kind: str
    plug_in: str
    path: Path
    record: Schema | None = None
    damage: str = ""
    guarded: tuple[tuple[int, int], ...] | None = ()


@dataclass(frozen=True, slots=True)
class Trap:
    """A hand-made input: it must end in an error or in quarantine, whatever the format can detect."""

    name: str
    plug_in: str
    record: Schema
    write: Callable[[Path], None]


def pixels() -> NDArray[np.uint8]:
    """(ROWS, 6, 5) records in which no value repeats in a pattern that damage could reproduce."""
    return np.random.default_rng(8).integers(0, 256, (ROWS, *SHAPE)).astype(np.uint8)


def labels() -> NDArray[np.str_]:
    """(ROWS,) class names."""
    return np.array([str(row % 3) for row in range(ROWS)])


def targets(folder: Path) -> list[Target]:
    """Write the valid files below `folder`: of every reader its own example, then what particular formats can hold."""
    made = []
    for name in READERS.names():
        reader = READERS.get(name)
        holds: Holds = getattr(reader, "HOLDS", Holds())
        dtype = "uint8" if "uint8" in holds.dtypes else holds.dtypes[0]
        x = np.random.default_rng(9).integers(0, 100, (ROWS, *holds.shape)).astype(dtype)
        path = folder / "own" / name / "example.data"
        path.parent.mkdir(parents=True)
        record = reader.write_example(path, x, labels())
        damage = str(sorted(p.relative_to(path) for p in path.rglob("*.png"))[3]) if path.is_dir() else ""
        made.append(Target(f"{name} (own example)", "reader", name, path, record, damage, _guards(path / damage)))
    x, y = pixels(), labels()
    record = Schema(shape=SHAPE, dtype="uint8", label="label")
    for name, plug_in, changes, data in _variants(x, y):
        path = folder / "more" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        made.append(Target(name, "reader", plug_in, path, record.model_copy(update=changes), "", _guards(path)))
    np.save(folder / "more" / "x.labels.npy", y.astype(np.int64))
    plain = shards.encode(pa.array([f"s/{row:09d}" for row in range(ROWS)]), x[..., None])
    (folder / "plain").write_bytes(plain)
    for name in CODECS.names():
        path = folder / f"shard.{name}"
        path.write_bytes(shards.pack(plain, name))
        made.append(Target(f"codec {name}", "codec", name, path, None, "", None))
    return made


def _variants(x: NDArray[np.uint8], y: NDArray[np.str_]) -> Iterator[tuple[str, str, dict[str, Any], bytes]]:
    """Name, reader, changes of the schema, and bytes of one valid file after the other."""
    flat = x.reshape(ROWS, -1)
    lines = "\n".join(",".join([*map(str, row), label]) for row, label in zip(flat.tolist(), y, strict=True)) + "\n"
    header = ",".join([*(f"c{i}" for i in range(flat.shape[1])), "label"]) + "\n"
    yield "header.csv", "csv", {}, (header + lines).encode()
    yield "x.csv.gz", "csv", {"label": 30}, gzip.compress(lines.encode(), mtime=0)
    yield "x.csv.bz2", "csv", {"label": 30}, bz2.compress(lines.encode())
    yield "x.csv.zst", "csv", {"label": 30}, zstandard.ZstdCompressor(write_checksum=True).compress(lines.encode())
    rows = [json.dumps({"x": row, "label": label}) for row, label in zip(x.tolist(), y, strict=True)]
    yield "x.jsonl.gz", "jsonl", {}, gzip.compress("\n".join(rows).encode(), mtime=0)
    ragged = pa.table({"x": pa.array(flat.tolist(), pa.list_(pa.uint8())), "label": pa.array(y.tolist())})
    fixed = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(x), "label": pa.array(y.tolist())})
    for codec in ("none", "snappy", "zstd", "gzip", "lz4"):
        sink = io.BytesIO()
        pq.write_table(ragged, sink, compression=codec, write_page_checksum=True, data_page_version="2.0")
        yield f"{codec}.parquet", "parquet", {}, sink.getvalue()
    for codec in (None, "lz4", "zstd"):
        for table, kind in ((ragged, "lists"), (fixed, "tensors")):
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(table, max_chunksize=10)
            yield f"{kind}-{codec}.arrows", "arrow", {}, sink.getvalue()
    yield "x.npy", "npy", {}, npy(x)
    third = ROWS // 3
    parts = {
        f"{part}_{what}": npy(array[i * third : (i + 1) * third])
        for i, part in enumerate(("train", "val", "test"))
        for what, array in (("images", x), ("labels", y.astype(np.uint8)[:, None]))
    }
    for compression, name in ((zipfile.ZIP_STORED, "stored.npz"), (zipfile.ZIP_DEFLATED, "medmnist.npz")):
        yield name, "npz", {"label": "labels"}, archive({f"{k}.npy": v for k, v in parts.items()}, compression)
    yield "x.idx", "idx", {"label": None}, idx.packed(x)
    pictures = {f"photos/{label}/{row:03d}.png": picture(x[row], "PNG") for row, label in enumerate(y)}
    yield "png.zip", "image_folder", {}, archive(pictures, zipfile.ZIP_STORED)
    yield "png.tar", "image_folder", {}, tar(pictures)
    tiffs = {f"{label}/{row:03d}.tif": picture(x[row], "TIFF") for row, label in enumerate(y)}
    yield "tiff.tar", "image_folder", {}, tar(tiffs)
    jpegs = {f"{label}/{row:03d}.jpg": picture(x[row], "JPEG") for row, label in enumerate(y)}
    yield "jpeg.zip", "image_folder", {}, archive(jpegs, zipfile.ZIP_DEFLATED)
    scans = {f"{label}/{row:03d}.dcm": dicom(x[row]) for row, label in enumerate(y)}
    yield "dicom.tar", "image_folder", {}, tar(scans)
    raw = io.BytesIO()
    for row in range(ROWS):
        tfrecord.frame(raw, tfrecord.example({"image": picture(x[row], "PNG"), "label": str(y[row]).encode()}))
    yield "x.tfrecord", "tfrecord", {}, raw.getvalue()
    yield "x.tfrecord.gz", "tfrecord", {}, gzip.compress(raw.getvalue(), mtime=0)


def npy(array: NDArray[np.generic]) -> bytes:
    """The array as an `.npy` file."""
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def npy_saying(shape: str, descr: str = "'|u1'", body: bytes = b"") -> bytes:
    """An `.npy` file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data, compression)
    return sink.getvalue()


def tar(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A tar file."""
    sink = io.BytesIO()
    with tarfile.TarFile(fileobj=sink, mode="w") as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, link
            made.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def picture(x: NDArray[np.generic], kind: str) -> bytes:
    """One record as a file of that kind."""
    sink = io.BytesIO()
    Image.fromarray(x).save(sink, kind)
    return sink.getvalue()


def dicom(x: NDArray[np.uint8], syntax: str = "1.2.840.10008.1.2.1", **changes: Any) -> bytes:
    """One record as secondary capture."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    meta.TransferSyntaxUID = syntax
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Rows, made.Columns = x.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelData = x.tobytes()
    for name, value in changes.items():
        setattr(made, name, value)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, made, enforce_file_format=True)
    return sink.getvalue()


def _guards(path: Path) -> tuple[tuple[int, int], ...] | None:
    """The byte ranges of a valid file in which every change breaks a checksum; None: all of it."""
    data = path.read_bytes()
    if data[:2] in {b"PK", b"\x1f\x8b", b"BZ"} or data[:4] in {b"\x28\xb5\x2f\xfd", b"\x89PNG"}:
        return None
    if path.suffix == ".tfrecord" or "tfrecord" in path.parts:
        return None
    if data[:4] == b"PAR1":
        return tuple(_pages.bodies(path, pq.read_metadata(path)))
    return ()


def damaged(data: bytes, rng: np.random.Generator, others: list[bytes]) -> tuple[str, bytes, bool]:
    """A malformed file made of a valid one.

    Args:
        data: the valid file.
        rng: decides what is done to it.
        others: files of other formats.

    Returns:
        What was done, the bytes, and whether each lies where it lay.
    """
    kind = rng.choice(
        ["bits", "bits", "cut", "cut", "number", "run", "magic", "gap", "twice", "tail", "other", "noise"]
    )
    out = bytearray(data)
    place = int(rng.integers(0, max(1, len(out))))
    # half of it where headers, footers and directories lie
    if rng.random() < 0.5:
        near = int(rng.integers(0, min(200, len(out)) or 1))
        place = near if rng.random() < 0.5 else max(0, len(out) - 1 - near)
    length = int(rng.integers(1, 64))
    if kind == "bits":
        for _ in range(int(rng.integers(1, 4))):
            out[place] ^= 1 << int(rng.integers(0, 8))
            place = min(len(out) - 1, place + int(rng.integers(0, 9)))
    elif kind == "number":
        absurd = [
            b"\xff" * 4,
            b"\xff" * 8,
            b"\x7f" + b"\xff" * 3,
            b"\xff" * 3 + b"\x7f",
            b"\0" * 8,
            b"\xff" * 7 + b"\x7f",
        ]
        number = absurd[int(rng.integers(0, len(absurd)))][: len(out) - place]
        out[place : place + len(number)] = number
    elif kind == "run":
        length = min(length, len(out) - place)
        out[place : place + length] = rng.bytes(length)
    elif kind == "magic":
        out[:8] = rng.bytes(min(8, len(out)))
    elif kind == "cut":
        del out[place:]
    elif kind == "gap":
        del out[place : place + length]
    elif kind == "twice":
        out[place:place] = out[place : place + length]
    elif kind == "tail":
        out += rng.bytes(length)
    elif kind == "other":
        out[:] = others[int(rng.integers(0, len(others)))]
    else:
        out[:] = rng.bytes(int(rng.integers(0, 4000)))
    return str(kind), bytes(out), kind in {"bits", "number", "run", "magic"}


def traps() -> list[Trap]:
    """Inputs that no reader may take, whatever its format can detect."""
    x = pixels()
    record = Schema(shape=SHAPE, dtype="uint8", low=0, high=255, label="label")
    bare, line = record.model_copy(update={"label": None}), Schema(shape=(5,), dtype="uint8")
    zeros = bytes(1 << 20)

    def gz(parts: Iterator[bytes] | list[bytes]) -> bytes:
        sink = io.BytesIO()
        with gzip.GzipFile(fileobj=sink, mode="wb", mtime=0) as file:
            for part in parts:
                file.write(part)
        return sink.getvalue()

    made: list[tuple[str, str, Schema, str, Callable[[], bytes]]] = []

    def add(name: str, plug_in: str, schema: Schema, file: str, data: Callable[[], bytes]) -> None:
        made.append((name, plug_in, schema, file, data))

    bomb = [zeros] * (BOMB >> 20)
    add("bomb of zeros", "csv", line, "x.csv.gz", lambda: gz(bomb))
    add("bomb of one line", "csv", line, "x.csv.gz", lambda: gz([b"1" * (1 << 20)] * (BOMB >> 20)))
    add("bomb of one quoted cell", "csv", line, "x.csv.gz", lambda: gz([b'"', *[b"1,\n" * (1 << 18)] * 200]))
    add("a line of words", "csv", line, "x.csv", lambda: b"a,b,c,d,e\n")
    add("not a number", "csv", line, "x.csv", lambda: b"1,2,nan,4,5\n1,2,inf,4,5\n1,2,,4,5\n")
    add("another width", "tsv", line, "x.tsv", lambda: b"1\t2\t3\n")
    add("no UTF-8", "tsv", line, "x.tsv", lambda: b"1\t2\t3\t4\t\xff\xfe\n")
    add("bomb of one line", "jsonl", line, "x.jsonl.gz", lambda: gz([b"[", *[b"1," * (1 << 19)] * (BOMB >> 20)]))
    add("bomb of zeros", "jsonl", line, "x.jsonl.gz", lambda: gz(bomb))
    add("deep nesting", "jsonl", line, "x.jsonl", lambda: b"[" * 100_000 + b"]" * 100_000)
    add("deep nesting later", "jsonl", line, "x.jsonl", lambda: b"[1,2,3,4,5]\n" + b"[" * 900_000 + b"\n")
    for text in (b"1e999", b"NaN", b"-Infinity", b"1" * 5000, b'"1"', b"null", b"[1]", b"{}", b"true", b"-1", b"1.5"):
        add(
            f"value {text[:8]!r}", "jsonl", line, "x.jsonl", lambda text=text: b"[1,2,3,4,5]\n[1,2,3,4," + text + b"]\n"
        )
    add("a pickle", "npy", bare, "x.npy", lambda: npy_saying("(24, 6, 5)", "'|O'", b"cos\nsystem\n(S'true'\ntR."))
    for shape in (
        "(10**15, 6, 5)",
        "(1000000000000000, 6, 5)",
        "(-1, 6, 5)",
        "(24, 5, 6)",
        "()",
        "(24,)",
        "(True, 6, 5)",
    ):
        add(f"shape {shape}", "npy", bare, "x.npy", lambda shape=shape: npy_saying(shape, body=x.tobytes()))
        add(
            f"shape {shape}", "npz", bare, "x.npz",
            lambda shape=shape: archive({"x.npy": npy_saying(shape, body=x.tobytes())}),
        )  # fmt: skip
    for descr in ("'<M8[s]'", "[('a', '<f4')]", "'|V8'", "'<c16'", "'<U7'", "'no'", "-" * 5000 + "1"):
        add(f"dtype {descr[:9]}", "npy", bare, "x.npy", lambda d=descr: npy_saying("(24, 6, 5)", d, x.tobytes() * 16))
    add(
        "header of 4 GB", "npz", bare, "x.npz",
        lambda: archive({"x.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(BOMB)}),
    )  # fmt: skip
    add("bomb behind the rows", "npz", bare, "x.npz", lambda: archive({"x.npy": npy(x) + bytes(BOMB)}))
    add("bomb in bzip2", "npz", bare, "x.npz", lambda: archive({"x.npy": npy(x)}, zipfile.ZIP_BZIP2))
    add("labels of text too long", "npz", record, "x.npz", lambda: archive(
        {"x.npy": npy(x), "label.npy": npy_saying("(24,)", "'<U250000'", bytes(24_000_000))}
    ))  # fmt: skip
    add("labels of another length", "npz", record, "x.npz", lambda: archive(
        {"x.npy": npy(x), "label.npy": npy(np.arange(5))}
    ))  # fmt: skip
    for sides in ((2**32 - 1, 6, 5), (24, 2**32 - 1, 2**32 - 1), (25, 6, 5), (0, 6, 5)):
        head = b"\0\0\x08\x03" + struct.pack(">3I", *sides)
        add(f"sides {sides}", "idx", bare, "x.idx", lambda head=head: head + x.tobytes())
        add(f"sides {sides}", "idx", bare, "x.idx.gz", lambda head=head: gz([head, x.tobytes()]))
    add("bomb behind the rows", "idx", bare, "x.idx.gz", lambda: gz([idx.packed(x), *bomb]))
    add("255 axes", "idx", bare, "x.idx", lambda: b"\0\0\x08\xff" + b"\xff" * 1020)
    good = picture(x[0], "PNG")
    for name in ("../../x.png", "/etc/x.png", "a/../../x.png", "..\\..\\x.png"):
        add(f"member {name!r}", "image_folder", bare, "x.zip", lambda n=name: archive({n: good, "b/y.png": good}))
        add(f"member {name!r}", "image_folder", bare, "x.tar", lambda n=name: tar({n: good, "b/y.png": good}))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        add(
            f"member of kind {kind!r}",
            "image_folder",
            bare,
            "x.tar",
            lambda k=kind: tar({"a.png": b""}, k, "/etc/passwd"),
        )
    add("no picture", "image_folder", bare, "x.zip", lambda: archive({"readme.txt": b"x"}))
    add("no class folder", "image_folder", record, "x.zip", lambda: archive({"x.png": good}))
    add("bomb as a member", "image_folder", bare, "x.zip", lambda: archive({"a/x.png": good + bytes(BOMB)}))
    for kind, sides in (("png", (60_000, 60_000)), ("png", (2**31 - 1, 2**31 - 1)), ("png", (6, 5))):
        ihdr = b"IHDR" + struct.pack(">2I5B", *sides, 8, 0, 0, 0, 0)
        body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + good[33:]
        add(f"{kind} of {sides}", "image_folder", bare, "x.zip", lambda b=body: archive({"a/x.png": b}))
    text = b"zTXtbomb\0\0" + zlib.compress(bytes(BOMB), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    broken = good[:33] + chunk + b"\0\0\0\x01IDAT\0\0\0\0\0"
    add("bomb in a PNG's text", "image_folder", bare, "x.zip", lambda: archive({"a/x.png": broken}))
    for what in ({"Rows": 60_000, "Columns": 60_000}, {"NumberOfFrames": 2**31 - 1}, {"SamplesPerPixel": 60_000}):
        add(f"DICOM with {what}", "image_folder", bare, "x.tar", lambda w=what: tar({"a.dcm": dicom(x[0], **w)}))
    add("deflated DICOM", "image_folder", bare, "x.tar", lambda: tar({"a.dcm": dicom(x[0], "1.2.840.10008.1.2.1.99")}))

    def record_of(data: bytes) -> bytes:
        sink = io.BytesIO()
        tfrecord.frame(sink, data)
        return sink.getvalue()

    def length_of(length: int) -> bytes:
        head = struct.pack("<Q", length)
        return head + struct.pack("<I", tfrecord.masked_crc(head))

    for length in (2**64 - 1, 2**40, BOMB):
        add(f"record of {length}", "tfrecord", bare, "x.tfrecord", lambda n=length: length_of(n) + x.tobytes())
    add("bomb as a record", "tfrecord", bare, "x.tfrecord.gz", lambda: gz([length_of(BOMB), *bomb]))
    add("bomb of zeros", "tfrecord", bare, "x.tfrecord.gz", lambda: gz(bomb))
    whole = tfrecord.example({"image": x[0].tobytes(), "label": b"1"})
    for name, data in {
        "nothing": b"", "a field too long": b"\x0a\xff\xff\xff\xff\x0f" + whole, "an endless number": b"\x0a" + b"\xff" * 40,
        "text": b"not a message at all", "half": whole[: len(whole) // 2], "a bad name": b"\x0a\x07\x0a\x05\x0a\x03\xff\xfe\xfd",
        "two labels": tfrecord.example({"image": x[0].tobytes(), "label": np.array([1, 2])}),
        "no label": tfrecord.example({"image": x[0].tobytes()}), "other size": tfrecord.example({"image": b"123", "label": b"1"}),
    }.items():  # fmt: skip
        add(f"example: {name}", "tfrecord", record, "x.tfrecord", lambda d=data: record_of(d))
    add("page of a bomb", "parquet", bare, "x.parquet", _parquet_bomb)
    for name, table in {
        "text": {"x": pa.array(["a"])}, "ragged": {"x": pa.array([[1, 2], [3]])}, "dates": {"x": pa.array([0], pa.date32())},
        "maps": {"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))}, "nulls": {"x": pa.nulls(3)},
        "missing": {"x": pa.array([[*range(29), None]], pa.list_(pa.int32()))}, "no column": {},
        "range": {"x": pa.array([[300] * 30], pa.list_(pa.int32()))}, "structs": {"x": pa.array([{"a": 1}])},
    }.items():  # fmt: skip
        add(f"column of {name}", "parquet", bare, "x.parquet", lambda t=table: _parquet(pa.table(t)))
        add(f"column of {name}", "arrow", bare, "x.arrow", lambda t=table: _stream(pa.table(t)))
    add("batch of a bomb", "arrow", bare, "x.arrow", _arrow_bomb)
    add("batch that claims a terabyte", "arrow", bare, "x.arrow", lambda: _claiming(1 << 40))
    add("batch that claims less than nothing", "arrow", bare, "x.arrow", lambda: _claiming(-5))
    return [Trap(name, plug_in, schema, _writing(file, data)) for name, plug_in, schema, file, data in made]


def _writing(file: str, data: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(data()) and None


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _stream(table: pa.Table, codec: str | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _long_lists() -> pa.Table:
    zeros = pa.array(np.zeros(BOMB // 8, np.int64))
    return pa.table({"x": pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), zeros)})


def _parquet_bomb() -> bytes:
    return _parquet(_long_lists(), compression="zstd", use_dictionary=False, data_page_size=1 << 30)


def _arrow_bomb() -> bytes:
    tall = pa.concat_tables([_long_lists()] * 2).combine_chunks()
    return _stream(tall, "zstd")


def _claiming(size: int) -> bytes:
    """A compressed batch one of whose buffers says another size than it has."""
    data = bytearray(_stream(pa.table({"x": pa.array([[7] * 30] * ROWS, pa.list_(pa.int64()))}), "lz4"))
    true = struct.pack("<q", ROWS * 30 * 8)
    place = data.rindex(true)
    data[place : place + 8] = struct.pack("<q", size)
    return bytes(data)
