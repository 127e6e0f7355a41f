"""What the steps share: copies of nets, their kernels, retraining on the labels and on a teacher's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_catalog.errors import ModelRefused
from infra.recipes import import_tensorflow
from infra.recipes._training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from infra.recipes import TrainingData

# The settings of `retrain`: of the training as in `infra/recipes`, and of the teacher's soft labels.
RETRAINING: Mapping[str, float | int | str] = {
    "epochs": 10,
    "batch": 64,
    "learning_rate": 0.001,
    "shift": 1.0,
    "turn": 0.0,
    "scale": 0.0,
    "temperature": 3.0,  # of the soft labels
    "hard": 0.3,  # share of the loss on the true labels
}


def cloned(net: Any, wrapped: Callable[[Any], Any], kind: str, skip: Collection[str] = ()) -> Any:
    """A copy of the net whose layers `wrapped` may wrap; weights are copied, nothing is shared.

    Args:
        net: a functional or sequential Keras model.
        wrapped: gives for a new layer (of the same configuration) what stands in its place.
        kind: of the step, for the error.
        skip: names of layers whose weights the caller sets.

    Raises:
        ModelRefused: the net has no layers to be looked at, as one that was imported from a plain SavedModel.
    """
    keras = import_tensorflow().keras
    if not (isinstance(net, keras.Sequential) or getattr(net, "_is_graph_network", False)):
        raise ModelRefused(
            f"step {kind} needs a functional or sequential Keras model, and this is a {type(net).__name__};"
            " use a recipe that distils or converts alone"
        )
    try:
        copy = keras.models.clone_model(
            net, clone_function=lambda layer: wrapped(layer.__class__.from_config(layer.get_config()))
        )
    except ValueError as error:
        raise ModelRefused(f"step {kind} cannot take this model apart ({_one_line(error)})") from error
    copy.build(net.input_shape)
    own: Mapping[str, Any] = {inner(layer).name: inner(layer) for layer in copy.layers}
    for layer in net.layers:
        if layer.weights and layer.name not in skip:
            own[layer.name].set_weights(layer.get_weights())
    return copy


def inner(layer: Any) -> Any:
    """The layer itself, without the wrapper that a step put around it."""
    return layer.layer if hasattr(layer, "layer") else layer


def has_kernel(layer: Any) -> bool:
    """Whether the layer is a convolution or a dense layer, whose weights are worth a step."""
    layers = import_tensorflow().keras.layers
    kinds = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
    return isinstance(layer, kinds)


def require_kernels(net: Any, kind: str) -> None:
    """Refuse a net without a layer that the step could change.

    Raises:
        ModelRefused: it has none.
    """
    if not any(has_kernel(layer) for layer in getattr(net, "layers", ())):
        raise ModelRefused(f"step {kind} finds no convolution and no dense layer in this model; leave the step out")


def kernel(layer: Any) -> Any:
    """The variable with a layer's kernel."""
    return layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel


def sparsity(net: Any) -> float:
    """Share of zeros among the weights of all kernels."""
    values = [kernel(layer).numpy() for layer in net.layers if has_kernel(layer)]
    return float(sum((v == 0).sum() for v in values) / max(1, sum(v.size for v in values)))


def retrain(net: Any, data: TrainingData, settings: Mapping[str, Any], seed: int, teacher: Any, stage: str) -> None:
    """Train the net on, in place: on the labels, and on the teacher's softened answers if there is a teacher.

    The soft loss is that of G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015.

    Args:
        net: changed in place.
        data: `train` is used, nothing else.
        settings: those of `RETRAINING`.
        seed: of order, views and dropout.
        teacher: a Keras model of the same records and classes, or None.
        stage: for the progress.
    """
    tf = import_tensorflow()
    heat, hard = float(settings["temperature"]), float(settings["hard"])
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(records: Any, labels: Any, logits: Any) -> Any:
        true = cross_entropy(labels, logits)
        if teacher is None:
            return true
        soft = tf.nn.softmax(teacher(records, training=False) / heat)
        softened = tf.nn.softmax_cross_entropy_with_logits(soft, logits / heat)
        return hard * true + (1 - hard) * heat**2 * tf.reduce_mean(softened)

    small = {**settings, "batch": min(int(settings["batch"]), len(data.train.y))}
    train(net, data.train.x, data.train.y, small, seed, loss, stage)


def updates(data: TrainingData, settings: Mapping[str, Any]) -> int:
    """How often `retrain` will change the weights."""
    rows = len(data.train.y)
    return int(settings["epochs"]) * max(1, rows // min(int(settings["batch"]), rows))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
