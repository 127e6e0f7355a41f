"""What is particular to a format: layouts, companions, suffixes, and what is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_catalog.errors import BadRecord, CatalogError, UnknownName
from data_catalog.nouns import Schema
from infra.readers import READERS, _protobuf, choose, content_digest, idx, strict, tfrecord

pytestmark = pytest.mark.unit

X = np.random.default_rng(1).integers(0, 256, (9, 4, 3)).astype(np.uint8)
Y = np.array([str(row % 3) for row in range(9)])


def read(name, path, block_rows=4, **schema):
    record = Schema.model_validate({"shape": (4, 3), "dtype": "uint8"} | schema)
    blocks = list(strict(READERS.get(name).read(path, record, block_rows), path))
    labels = [label for block in blocks if block.labels is not None for label in block.labels]
    assert [block.first_row for block in blocks] == np.cumsum([0, *(len(block.x) for block in blocks)])[:-1].tolist()
    return np.concatenate([block.x for block in blocks]), labels


# --- NPZ ------------------------------------------------------------------------------------------------------


@pytest.fixture
def medmnist(tmp_path):
    path = tmp_path / "pathmnist.npz"
    parts = {"train": slice(0, 4), "val": slice(4, 6), "test": slice(6, 9)}
    arrays = {f"{part}_images": X[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": Y[rows].astype(np.uint8)[:, None] for part, rows in parts.items()}
    np.savez_compressed(path, **dict(sorted(arrays.items())))
    return path


def test_medmnist_is_read_part_after_part(medmnist):
    x, labels = read("npz", medmnist, label="labels")
    np.testing.assert_array_equal(x, X)
    assert labels == Y.tolist()


def test_one_part_of_medmnist_by_its_labels(medmnist):
    x, labels = read("npz", medmnist, label="test_labels")
    np.testing.assert_array_equal(x, X[6:])
    assert labels == Y[6:].tolist()


def test_medmnist_without_labels(medmnist):
    np.testing.assert_array_equal(read("npz", medmnist)[0], X)
    np.testing.assert_array_equal(read("npz", medmnist, columns=["val_images"])[0], X[4:6])


def test_arrays_that_could_all_be_the_records_must_be_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=X, b=X, y=Y)
    with pytest.raises(BadRecord, match=r"name one array with the records as `record.columns`: a, b, y"):
        read("npz", tmp_path / "x.npz", label="y")
    assert read("npz", tmp_path / "x.npz", label="y", columns=["b"])[1] == Y.tolist()


def test_several_labels_a_record_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=np.zeros((9, 14)))
    with pytest.raises(BadRecord, match=r"x\.npz, array y: \(9, 14\) labels for 9 records"):
        read("npz", tmp_path / "x.npz", label="y")


@pytest.mark.parametrize("name", ["npy", "npz"])
def test_pickles_are_never_loaded(tmp_path, name):
    path = tmp_path / f"x.{name}"
    (np.save if name == "npy" else np.savez)(path, np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(BadRecord, match="pickled objects"):
        read(name, path)


def test_fortran_order_is_turned_in_npy(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.testing.assert_array_equal(read("npy", tmp_path / "x.npy")[0], X)


# --- IDX ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_idx_finds_its_labels_by_mnists_names(tmp_path, pack):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(pack(idx.packed(X)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(pack(idx.packed(Y.astype(np.uint8))))
    x, labels = read("idx", tmp_path / "t10k-images-idx3-ubyte", label="labels")
    np.testing.assert_array_equal(x, X)
    assert labels == Y.tolist()
    record = Schema(shape=(4, 3), dtype="uint8", label="labels")
    assert idx.companions("s3://b/train-images-idx3-ubyte.gz", record) == ("s3://b/train-labels-idx1-ubyte.gz",)


def test_idx_is_big_endian(tmp_path):
    wide = X.astype(np.int32) * 70_001
    (tmp_path / "x.idx").write_bytes(idx.packed(wide))
    assert idx.packed(wide)[:4] == b"\0\0\x0c\x03"
    np.testing.assert_array_equal(read("idx", tmp_path / "x.idx", dtype="int32")[0], wide)


# --- pictures -------------------------------------------------------------------------------------------------


def picture(x, kind="PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(x).save(sink, kind)
    return sink.getvalue()


def members(suffix="png", kind="PNG"):
    return {f"photos/{label}/{row}.{suffix}": picture(X[row], kind) for row, label in enumerate(Y)}


def packed(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("where", ["x.zip", "x.tar", "folder"])
@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("tiff", "TIFF")])
def test_pictures_in_the_order_of_their_names(tmp_path, where, suffix, kind):
    more = {"photos/.hidden.png": b"x", "__MACOSX/photos/0/._0.png": b"x", "photos/README.txt": b"x"}
    path = packed(tmp_path / where, members(suffix, kind) | more)
    order = sorted(range(9), key=lambda row: (Y[row], str(row)))
    x, labels = read("image_folder", path, label="folder")
    np.testing.assert_array_equal(x, X[order])
    assert labels == Y[order].tolist()
    assert read("image_folder", path)[1] == []


def test_jpegs_and_colours_and_a_channel_axis(tmp_path):
    grey, colour = np.full((8, 8), 77, np.uint8), np.stack([np.full((8, 8), v, np.uint8) for v in (10, 200, 30)], -1)
    Image.fromarray(grey).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read("image_folder", tmp_path, shape=(8, 8))[0].astype(int) - 77).max() <= 2
    assert read("image_folder", tmp_path, shape=(8, 8, 1))[0].shape == (1, 8, 8, 1)
    with pytest.raises(BadRecord, match=r"row 0: a\.jpg: a picture of shape \(8, 8, 1\) where .* \(8, 8, 3\)"):
        read("image_folder", tmp_path, shape=(8, 8, 3))
    (tmp_path / "a.jpg").unlink()
    Image.fromarray(colour).quantize(4).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read("image_folder", tmp_path, shape=(8, 8, 3))[0][0], colour)


def test_a_damaged_picture_is_a_bad_record_by_name(tmp_path):
    path = packed(tmp_path / "folder", members())
    file = path / "photos" / "1" / "4.png"
    file.write_bytes(file.read_bytes()[:-20])
    record = Schema(shape=(4, 3), dtype="uint8", label="folder")
    (bad,) = [bad for block in READERS.get("image_folder").read(path, record, 2) for bad in block.rejected]
    assert bad.row == 4
    assert bad.reason.startswith("photos/1/4.png: cannot be decoded")


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "a\\..\\x.png"])
@pytest.mark.parametrize("where", ["x.zip", "x.tar"])
def test_members_that_point_out_of_an_archive_are_refused(tmp_path, name, where):
    path = packed(tmp_path / where, {"a/b.png": picture(X[0]), name: picture(X[1])})
    with pytest.raises(BadRecord, match="points out of the archive"):
        read("image_folder", path)


def test_dicom_as_stored(tmp_path):
    from benchmarks._fuzz_inputs import dicom

    for row, x in enumerate(X):
        (tmp_path / f"{row}.dcm").write_bytes(dicom(x))
    np.testing.assert_array_equal(read("image_folder", tmp_path)[0], X)


def test_a_folders_digest_is_of_names_and_bytes(tmp_path):
    first = packed(tmp_path / "a", members())
    second = packed(tmp_path / "b", dict(reversed(members().items())))
    assert content_digest(first) == content_digest(second)
    (second / "photos" / "0" / "0.png").rename(second / "photos" / "1" / "0.png")
    moved = content_digest(second)
    assert moved != content_digest(first)
    (second / "photos" / "1" / "0.png").write_bytes(b"x")
    assert content_digest(second) != moved


# --- columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", ["tensor", "lists", "nested", "scalars", "dictionary"])
def test_columns_of_lists_tensors_and_numbers(tmp_path, name, kind):
    flat = X.reshape(9, -1)
    column = {
        "tensor": lambda: {"x": pa.FixedShapeTensorArray.from_numpy_ndarray(X)},
        "lists": lambda: {"x": pa.array(flat.tolist(), pa.list_(pa.int32()))},
        "nested": lambda: {"x": pa.array(X.tolist())},
        "scalars": lambda: {f"c{i}": flat[:, i] for i in range(flat.shape[1])},
        "dictionary": lambda: {f"c{i}": pa.array(flat[:, i]).dictionary_encode() for i in range(flat.shape[1])},
    }[kind]()
    table = pa.table({"name": Y, **column})
    path = tmp_path / "x.data"
    if name == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table, max_chunksize=5)
    x, labels = read(name, path, label="name")
    np.testing.assert_array_equal(x, X)
    assert labels == Y.tolist()


def test_named_columns_leave_the_others_out(tmp_path):
    pq.write_table(pa.table({"when": ["today"], "b": [2], "a": [1], "y": [7]}), tmp_path / "x.parquet")
    x, labels = read("parquet", tmp_path / "x.parquet", shape=(2,), columns=["a", "b"], label="y")
    assert (x.tolist(), labels) == ([[1, 2]], ["7"])
    (tmp_path / "x.csv").write_text("when,b,a,y\ntoday,2,1,7\n")
    x, labels = read("csv", tmp_path / "x.csv", shape=(2,), columns=["a", "b"], label="y")
    assert (x.tolist(), labels) == ([[1, 2]], ["7"])
    (tmp_path / "x.jsonl").write_text('{"when": "today", "b": 2, "a": 1, "y": 7}\n')
    x, labels = read("jsonl", tmp_path / "x.jsonl", shape=(2,), columns=["a", "b"], label="y")
    assert (x.tolist(), labels) == ([[1, 2]], ["7"])


def test_missing_and_ragged_rows_are_named(tmp_path):
    lists = pa.array([[1, 2], [3], None, [4, None], [5, 6]], pa.list_(pa.int8()))
    pq.write_table(pa.table({"x": lists}), tmp_path / "x.parquet")
    (block,) = READERS.get("parquet").read(tmp_path / "x.parquet", Schema(shape=(2,), dtype="int8"), 9)
    assert {bad.row: bad.reason for bad in block.rejected} == {
        1: "1 values where the schema says 2",
        2: "a value is missing",
        3: "value nan is not a number",
    }
    assert block.x.tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [5, 6]]


# --- TFRecord and JSON Lines ------------------------------------------------------------------------------------


def test_masked_crc_is_the_published_one():
    """CRC-32C of nine digits is 0xe3069283 (RFC 3720's polynomial); masked as TensorFlow masks it."""
    crc = 0xE3069283
    assert tfrecord.masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_features_of_bytes_pictures_and_negative_integers(tmp_path):
    path = tmp_path / "x.tfrecord"
    for features in ([x.tobytes() for x in X], [picture(x) for x in X]):
        with path.open("wb") as file:
            for row, data in enumerate(features):
                tfrecord.frame(file, tfrecord.example({"image": data, "label": np.array([row - 4])}))
        x, labels = read("tfrecord", path, label="label")
        np.testing.assert_array_equal(x, X)
        assert labels == [str(row - 4) for row in range(9)]


def test_integers_that_are_not_packed_are_read_too():
    feature = b"\x1a\x06\x08\x05\x08\xac\x02\x08"  # int64_list: 5, then 300, then one that is cut
    entry = b"\x0a\x01x\x12" + bytes([len(feature) + 1]) + b"\x1a\x07" + feature[2:] + b"\x01"
    message = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    assert _protobuf.example(memoryview(message))["x"].tolist() == [5, 300, 1]


def test_a_changed_record_is_a_bad_one_and_a_changed_length_the_end(tmp_path):
    path = tmp_path / "x.tfrecord"
    record = READERS.get("tfrecord").write_example(path, X.reshape(9, -1), None)
    data = bytearray(path.read_bytes())
    size = len(data) // 9
    data[2 * size + 20] ^= 1
    path.write_bytes(data)
    blocks = list(READERS.get("tfrecord").read(path, record, 100))
    assert [bad.row for block in blocks for bad in block.rejected] == [2]
    data[4 * size] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadRecord, match="the checksum of a length is wrong"):
        list(READERS.get("tfrecord").read(path, record, 100))


def test_json_lines_name_what_is_wrong(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": [1, 2]}\n\n{"a": [1]}\n{"b": 1}\n{"a": [1, true]}\nno\n{"a": [3, 4]}\n')
    (block,) = READERS.get("jsonl").read(tmp_path / "x.jsonl", Schema(shape=(2,), dtype="int8"), 9)
    assert [bad.row for bad in block.rejected] == [1, 2, 3, 4]
    assert block.x.tolist()[0::5] == [[1, 2], [3, 4]]


# --- which reader -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://b/x.CSV.gz", "csv"), ("x.tsv", "tsv"), ("x.parquet", "parquet"), ("x.arrows", "arrow"), ("x.npy", "npy"),
        ("x.npz", "npz"), ("train-images-idx3-ubyte.gz", "idx"), ("photos/", "image_folder"), ("x.tar", "image_folder"),
        ("package://m/x.jsonl.zst", "jsonl"), ("x.tfrecord", "tfrecord"),
    ],
)  # fmt: skip
def test_the_suffix_chooses_where_the_format_is_left_out(uri, name):
    assert choose("", uri) is READERS.get(name)


def test_a_folder_needs_no_slash(tmp_path):
    assert choose("", str(tmp_path)) is READERS.get("image_folder")


def test_no_two_readers_claim_a_suffix():
    suffixes = [suffix for name in READERS.names() for suffix in READERS.get(name).SUFFIXES]
    assert len(suffixes) == len(set(suffixes))


def test_unknown_suffixes_and_formats_are_errors():
    with pytest.raises(CatalogError, match=r"no format has the suffix of x\.dat; name one of .*csv.* as `format`"):
        choose("", "x.dat")
    with pytest.raises(UnknownName, match="did you mean 'parquet'"):
        choose("parquett", "x", "d")
