"""The predictions of a trained network, and their accuracy."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree, UInt8

from cifar_jax.checks import check_integer, check_type
from cifar_jax.data import Split
from cifar_jax.data.dataset import check_class_names
from cifar_jax.data.normalization import Statistics
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.split import check_images, check_split
from cifar_jax.devices import compilation, memory, sharding
from cifar_jax.metrics import scores
from cifar_jax.models import Network

# The fastest for the tutorial's network on a CPU among sizes from 25 to 1,000.
BATCH_SIZE = 80
# The batch size of `classify`.
_FEW = 8
# Images sent to the devices at a time: enough for all of CIFAR-10.
BYTES_PER_CALL = 256 << 20


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: the network.
        variables: its parameters and BatchNorm statistics, averaged over training or
            from the last step.
        preprocessing: how images are prepared for the network.
        statistics: statistics of the training images, if they normalize inputs.
        step: number of training steps; 0 if it was not trained by this package.
        class_names: the name of each label, in order.
        image_shape: height, width and channels of input images.
        value_range: the value range of the training images, for `read_picture`; see
            `Dataset`.
    """

    model: Network
    variables: PyTree
    preprocessing: Preprocessing
    statistics: Statistics | None
    step: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_class_names(self.class_names, "class_names")


def eval_step(
    variables: PyTree,
    images: UInt8[Array | np.ndarray, "n h w c"],
    statistics: Statistics | None,
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> Float[Array, "n classes"]:
    """Returns the logits of images.

    If there are several views of an image, `Views.combine` combines their logits.

    Raises:
        UserError: the images cannot be used.
    """
    check_images(images, "images")
    evaluation = jax.vmap(preprocessing.prepare_eval, (0, None))
    views = evaluation(jnp.asarray(images), statistics)
    logits = model.apply(variables, views.reshape(-1, *views.shape[2:]))
    assert isinstance(logits, Array)  # not a tuple: no collection is mutable
    num_views = views.shape[1]
    if num_views == 1:
        return logits
    return preprocessing.views.combine(logits.reshape(*views.shape[:2], -1))


def predict_logits(
    network: Trained,
    images: UInt8[Any, "n h w c"],
    batch_size: int = BATCH_SIZE,
    num_devices: int | None = None,
) -> Float[np.ndarray, "n classes"]:
    """Returns the logits of each image.

    One device call covers many batches, and the devices share each batch. The last call
    is padded, and the logits of the padding are dropped; a batch size above the number
    of images is reduced instead.

    Args:
        network: a trained network.
        images: bytes.
        batch_size: images per batch; rounded up to a multiple of the devices.
        num_devices: number of devices to use; None: all.

    Raises:
        UserError: an argument cannot be used.
        RunError: there is not enough memory.
    """
    check_type(network, "network", Trained)
    check_images(images, "images", network.image_shape)
    batch_size = check_integer(batch_size, "batch_size", at_least=1)
    # Below BATCH_SIZE, every number of images would be compiled separately.
    batch_size = min(batch_size, max(len(images), BATCH_SIZE))
    mesh = sharding.create_mesh(num_devices)
    compilation.enable()
    batch_size += -batch_size % mesh.size
    way_out = "use smaller images or a smaller network"
    if batch_size > _FEW:
        way_out = f"lower --batch_size, or {way_out}"
    with memory.shortage_as_run_error(f"batches of {batch_size} images", way_out):
        return _predict(network, images, batch_size, mesh)


def _predict(
    network: Trained, images: UInt8[Any, "n h w c"], batch_size: int, mesh: Mesh
) -> Float[np.ndarray, "n classes"]:
    """Implements `predict_logits` for a batch size that the devices can share."""
    whole = NamedSharding(mesh, PartitionSpec())
    weights = jax.device_put((network.variables, network.statistics), whole)
    batch_shape = (batch_size, *images.shape[1:])
    batches = math.ceil(len(images) / batch_size)
    count = batches_per_call(batches, math.prod(batch_shape))
    call, looped = _compile(network, mesh, weights, (count, *batch_shape))
    if looped:
        shape, spec = (count, *batch_shape), PartitionSpec(None, sharding.AXIS)
    else:
        count, shape, spec = 1, batch_shape, PartitionSpec(sharding.AXIS)
    shared = NamedSharding(mesh, spec)
    logits: list[Array] = []
    for start in range(0, len(images), count * batch_size):
        part = images[start : start + count * batch_size]
        missing = count * batch_size - len(part)
        padded = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)]).reshape(shape)
        logits.append(call(weights, sharding.place(padded, shared)))
        if len(logits) > 1:
            # Otherwise the devices could hold the images of all calls at once.
            jax.block_until_ready(logits[-2])
    return np.concatenate([x.reshape(-1, x.shape[-1]) for x in logits])[: len(images)]


def _compile(
    network: Trained, mesh: Mesh, weights: PyTree, shape: tuple[int, ...]
) -> tuple[jax.stages.Compiled, bool]:
    """Returns the compiled function of the weights and several batches, or one batch.

    Args:
        network: the network.
        mesh: the devices.
        weights: the weights on these devices.
        shape: the shape of all batches in a call.

    Returns:
        The function, and whether it takes several batches; on a CPU, a loop over them
        may be slow.
    """
    what = {"model": network.model, "preprocessing": network.preprocessing}

    def lowered(
        function: Callable[..., Array], spec: PartitionSpec, shape: tuple[int, ...]
    ) -> jax.stages.Lowered:
        shared = NamedSharding(mesh, spec)
        images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=shared)
        whole = NamedSharding(mesh, PartitionSpec())
        function = functools.partial(function, **what)
        return jax.jit(function, out_shardings=whole).lower(weights, images)

    def compiled() -> tuple[jax.stages.Compiled, bool]:
        if jax.default_backend() == "cpu":
            one = lowered(_logits, PartitionSpec(sharding.AXIS), shape[1:])
            if compilation.is_slow_in_loops(one):
                return compilation.compile_lowered(one), False
        every = lowered(_all_logits, PartitionSpec(None, sharding.AXIS), shape)
        return compilation.compile_lowered(every), True

    key = (_logits, mesh, shape, *what.values())
    return compilation.compile_once(key, weights, compiled)


def batches_per_call(batches: int, batch_bytes: int) -> int:
    """Returns a number of batches that makes all calls about the same length."""
    calls = math.ceil(batches * batch_bytes / BYTES_PER_CALL)
    return math.ceil(batches / calls)


def evaluate(network: Trained, split: Split, batch_size: int = BATCH_SIZE) -> float:
    """Returns the accuracy: the fraction of images whose highest logit is their label.

    The tutorial calls it precision @ 1, and so do logs and reports here.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(network, "network", Trained)
    check_split(split, "split", len(network.class_names), network.image_shape)
    logits = predict_logits(network, split.images, batch_size)
    return scores.accuracy(logits, split.labels[:])


def classify(
    network: Trained, images: UInt8[np.ndarray, "n h w c"]
) -> Float[np.ndarray, "n classes"]:
    """Returns the probability of each class for each image.

    Raises:
        UserError: the images cannot be used.
    """
    check_type(network, "network", Trained)
    check_images(images, "images", network.image_shape)
    # A fixed batch size, so that the same image always gets the same probabilities, and
    # no n needs its own compilation.
    logits = [
        predict_logits(network, images[i : i + _FEW], batch_size=_FEW)
        for i in range(0, len(images), _FEW)
    ]
    return np.asarray(jax.nn.softmax(np.concatenate(logits), axis=-1))


def _all_logits(
    weights: tuple[PyTree, Statistics | None],
    batches: UInt8[Array, "m n h w c"],
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> Float[Array, "m n classes"]:
    logits = functools.partial(
        _logits, weights, model=model, preprocessing=preprocessing
    )
    return jax.lax.map(logits, batches)


def _logits(
    weights: tuple[PyTree, Statistics | None],
    images: UInt8[Array, "n h w c"],
    *,
    model: Network,
    preprocessing: Preprocessing,
) -> Float[Array, "n classes"]:
    variables, statistics = weights
    return eval_step(
        variables, images, statistics, model=model, preprocessing=preprocessing
    )
