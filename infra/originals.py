"""Models that are to be compressed: ours from the store, or somebody's Keras file or SavedModel, checked and adapted.

A model has to give one score a class for records as they lie in the shards. Probabilities are turned into logits; a
record's shape is adapted where the number of values agrees; scaling is not guessed.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_catalog.errors import BadInput, CatalogError, ModelRefused
from infra import model_registry, storage
from infra.recipes import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from data_catalog.nouns import CompressionJob

STORE = "store://"
LOOKED_AT = 64  # rows, to see whether a model gives probabilities


def of_job(job: CompressionJob, x: NDArray[np.generic], work: Path) -> Any:
    """The job's original as a Keras model from float32 records to logits.

    Args:
        job: names it.
        x: some records.
        work: a folder for its files.

    Raises:
        ModelRefused: it cannot be loaded.
    """
    store = storage.open_store(job.bucket)
    if job.keras:
        path = work / "model.keras"
        store.get_file(job.keras, path)
        return import_tensorflow().keras.models.load_model(path, compile=False)
    folder = _unpacked(model_registry.read_model(store, job.original), work, job.original.key)
    return adapted(_saved_model(folder, job.original.key), x, len(job.classes), job.original.key)


def fetch(uri: str, bucket: str, work: Path) -> Path:
    """A local file or folder with a model.

    Args:
        uri: a path, a URL that fsspec knows, `package://<module>/<file>`, or `store://<key>` for an object of the store.
        bucket: of the store.
        work: where it is copied to.

    Raises:
        CatalogError, StoreError: it is not there.
    """
    if not uri.startswith(STORE):
        try:
            return storage.local_copy(uri, work)
        except CatalogError as error:
            raise BadInput(
                f"the model {uri} cannot be read; name a catalog's model, a file, a folder or a URL"
            ) from error
    key = uri.removeprefix(STORE)
    path = work / Path(key).name
    storage.open_store(bucket).get_file(key, path)
    return path


def read(path: Path, work: Path) -> Any:
    """A Keras file (`.keras`, `.h5`), a SavedModel's folder, or a tar of one, as a Keras model.

    Raises:
        BadInput: it is none of these, or has code in it that would run.
        ModelRefused: TensorFlow cannot load it.
    """
    tf = import_tensorflow()
    if path.is_dir():
        return _saved_model(path, str(path))
    if path.suffix in {".tar", ".gz", ".tgz"}:
        return _saved_model(_unpacked(path.read_bytes(), work, str(path)), str(path))
    if path.suffix not in {".keras", ".h5", ".hdf5"}:
        raise BadInput(
            f"{path} is no model that can be compressed; give .keras, .h5, a SavedModel's folder or its .tar"
        )
    _refuse_code(path)
    try:
        return tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, ImportError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelRefused(
            f"{path} cannot be loaded by Keras 2 ({_one_line(error)}); save it with Keras 2, or as a SavedModel"
        ) from error


def adapted(net: Any, x: NDArray[np.generic], classes: int, where: str) -> Any:
    """The model as a function of float32 records to logits: checked, reshaped where that is needed.

    Args:
        net: a Keras model.
        x: (n, *shape) records.
        classes: how many there are.
        where: what it was read from, for the error.

    Raises:
        ModelRefused: it takes or gives something else; says what.
    """
    tf = import_tensorflow()
    layers = tf.keras.layers
    takes, gives = getattr(net, "input_shape", None), getattr(net, "output_shape", None)
    if isinstance(takes, list) or isinstance(gives, list) or not takes or not gives:
        raise ModelRefused(f"{where} has not one input and one output; give a classifier of single records")
    wanted = tuple(x.shape[1:])
    if len(gives) != 2 or gives[1] not in (classes, None):
        raise ModelRefused(f"{where} gives {gives[1:]} a record, and the dataset has {classes} classes; name another")
    inside = tuple(side if side else have for side, have in zip(takes[1:], wanted, strict=False))
    if inside != wanted and int(np.prod([side or 0 for side in takes[1:]])) != int(np.prod(wanted)):
        raise ModelRefused(
            f"{where} takes records of {takes[1:]}, and the dataset has {wanted}; change the dataset's transforms"
        )
    net = _without_softmax(net)
    sample = x[:LOOKED_AT].astype(np.float32).reshape(-1, *(wanted if inside == wanted else takes[1:]))
    scores = np.asarray(net(sample, training=False))
    probabilities = bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
    if inside == wanted and not probabilities:
        return net
    entry = answer = tf.keras.Input(wanted, name="x")
    if inside != wanted:
        answer = layers.Reshape(takes[1:])(answer)
    answer = _inlined(net, answer)
    if probabilities:
        answer = tf.math.log(tf.maximum(answer, 1e-7))
    return tf.keras.Model(entry, answer)


def keras_file(net: Any, work: Path) -> bytes:
    """The model as Keras writes it; empty if it is one of layers that Keras cannot write again."""
    if not (hasattr(net, "save") and _is_graph(net)) or any(type(layer) is _imported() for layer in net.layers):
        return b""
    path = work / "original.keras"
    net.save(path, save_format="keras")
    return path.read_bytes()


def _is_graph(net: Any) -> bool:
    return bool(getattr(net, "_is_graph_network", False))


def _inlined(net: Any, entry: Any) -> Any:
    """The outcome of a model's layers on an entry: not a model in a model, which the steps cannot look into."""
    keras = import_tensorflow().keras
    if any(type(layer) is _imported() for layer in net.layers):
        return net(entry)
    copy = keras.models.clone_model(net, input_tensors=entry)
    copy.set_weights(net.get_weights())
    return copy.outputs[0]


def _without_softmax(net: Any) -> Any:
    """The net whose last layer gives logits, where that layer is a dense one with a softmax; else as it is."""
    keras = import_tensorflow().keras
    if not (isinstance(net, keras.Sequential) or _is_graph(net)) or not net.layers:
        return net
    last = net.layers[-1]
    if not isinstance(last, keras.layers.Dense) or last.get_config()["activation"] != "softmax":
        return net

    def plain(layer: Any) -> Any:
        config = layer.get_config() | ({"activation": "linear"} if layer is last else {})
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(net, clone_function=plain)
    copy.build(net.input_shape)
    copy.set_weights(net.get_weights())
    return copy


def _saved_model(folder: Path, where: str) -> Any:
    """A SavedModel as a Keras model: with its layers if Keras wrote it, else as one layer that nobody looks into."""
    tf = import_tensorflow()
    if not (folder / "saved_model.pb").exists():
        inner = sorted(folder.glob("*/saved_model.pb"))
        if len(inner) != 1:
            raise BadInput(f"{where} holds no saved_model.pb; give the folder of a SavedModel")
        folder = inner[0].parent
    try:
        if (folder / "keras_metadata.pb").exists():
            return tf.keras.models.load_model(folder, compile=False)
        loaded = tf.saved_model.load(str(folder))
    except (tf.errors.OpError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefused(f"TensorFlow {tf.__version__} cannot load {where} ({_one_line(error)})") from error
    function = getattr(loaded, "serve", None) or loaded.signatures.get("serving_default")
    if function is None:
        known = ", ".join(loaded.signatures) or "none"
        raise ModelRefused(f"{where} has no signature serving_default (it has: {known}); save it with one")
    concrete = function if hasattr(function, "structured_outputs") else function.get_concrete_function()
    specs = [spec for spec in tf.nest.flatten(concrete.structured_input_signature) if isinstance(spec, tf.TensorSpec)]
    results = tf.nest.flatten(concrete.structured_outputs)
    if len(specs) != 1 or len(results) != 1:
        raise ModelRefused(
            f"{where} takes {len(specs)} tensors and gives {len(results)}; a classifier takes one and gives one"
        )
    if specs[0].shape.rank is None or None in specs[0].shape.as_list()[1:]:
        raise ModelRefused(
            f"{where} does not say the shape of its records ({specs[0].shape}); save it with a fixed one"
        )
    entry = tf.keras.Input(specs[0].shape.as_list()[1:], name="x")
    return tf.keras.Model(entry, _imported()(loaded, function, specs[0])(entry))


def _imported() -> Any:
    """The layer that runs a function of a SavedModel; a class that TensorFlow must be there to define."""
    global _layer
    if _layer is None:
        tf = import_tensorflow()

        class Imported(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
            """One function of a SavedModel."""

            def __init__(self, loaded: Any, function: Any, spec: Any) -> None:
                super().__init__(name="imported")
                self.loaded, self.function, self.spec = loaded, function, spec

            def call(self, records: Any) -> Any:
                cast = tf.cast(records, self.spec.dtype)
                name = self.spec.name
                outcome = (
                    self.function(cast)
                    if not hasattr(self.function, "structured_outputs")
                    else self.function(**{name: cast})
                )
                return tf.nest.flatten(outcome)[0]

        _layer = Imported
    return _layer


_layer: Any = None


def _unpacked(data: bytes, work: Path, where: str) -> Path:
    folder = work / "saved-model"
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ModelRefused(f"{where} is no tar of a SavedModel ({_one_line(error)})") from error
    return folder


def _refuse_code(path: Path) -> None:
    """Refuse a file with a Lambda layer: loading it would run what its author wrote."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = archive.read("config.json")
        else:
            import h5py  # type: ignore[import-untyped]

            with h5py.File(path, "r") as file:
                config = file.attrs.get("model_config", b"")
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelRefused(f"{path} is no Keras model ({_one_line(error)}); save it again with model.save") from error
    text = config.decode() if isinstance(config, bytes) else str(config)
    if not text:
        raise ModelRefused(f"{path} holds weights alone; save the whole model with model.save")
    if '"Lambda"' in text:
        raise BadInput(f"{path} has a Lambda layer, whose code would run here; save it as a SavedModel instead")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def suggested_name(uri: str) -> str:
    """A name for a model that has none in the catalog: the stem of its file, in small letters, digits and dashes."""
    stem = Path(uri.rstrip("/")).name.split(".")[0].lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in stem).strip("-")[:63] or "model"


def is_file(model: str) -> bool:
    """Whether this is a path or an address, and no name of the catalog."""
    return "/" in model or Path(model).suffix in {".keras", ".h5", ".hdf5", ".tar", ".tgz"}


def check_accuracy(right: float, labels: Sequence[int] | NDArray[np.integer], where: str) -> None:
    """Refuse an original that does no better than the most frequent answer: it does not know these records.

    Raises:
        ModelRefused: it is no better.
    """
    most = float(np.bincount(np.asarray(labels)).max() / len(labels))
    if right <= most:
        raise ModelRefused(
            f"{where} is right on {right:.2%} of the validation rows, no better than always giving the most frequent"
            " class; it takes records as they lie in the dataset, so put its scaling into it, or into the transforms"
        )
