"""The predictions of a trained network, and their accuracy."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Num, PyTree, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data import Split
from cifar_jax.data.dataset import check_class_names
from cifar_jax.data.normalization import Statistics
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.split import check_images, check_split
from cifar_jax.errors import UserError
from cifar_jax.evaluation import batching, forward
from cifar_jax.evaluation.batching import BATCH_SIZE, FEW
from cifar_jax.metrics import scores
from cifar_jax.models import Network

Result = TypeVar("Result")
# The variables and the statistics of the training images.
Weights = tuple[PyTree, Statistics | None]


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

    def logits(
        self, images: Num[Array | np.ndarray, "n h w 3"]
    ) -> Float[Array, "n classes"]:
        """Returns the logits of images, as a function for `jax.grad` and the like.

        It computes the same as `predict_logits`, but takes fractions of pixel values
        too, all images in one batch, and what JAX traces.

        Args:
            images: pixels from 0 to 255, of the network's `image_shape`.

        Raises:
            UserError: the images cannot be used.
        """
        return self._apply(forward.logits, images)

    def layers(
        self, images: Num[Array | np.ndarray, "n h w 3"]
    ) -> collections.OrderedDict[str, Float[Array, "n ..."]]:
        """Returns the outputs of layers by name, as a function like `logits`.

        These are `input`, the network's input; the layers that it taps, in order (see
        `Block.tap`); and `penultimate`, what goes into the last layer. If evaluation
        uses several views of an image, only the first, central one is used.

        Args:
            images: see `logits`.

        Raises:
            UserError: the images cannot be used.
        """
        return self._apply(forward.layers, images)

    def _apply(self, function: Callable[..., Result], images: Any) -> Result:
        check_images(images, "images", self.image_shape, may_be_floats=True)
        return function(
            self.variables,
            images,
            self.statistics,
            model=self.model,
            preprocessing=self.preprocessing,
        )


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function of weights and images, which equals others with the same fields.

    Attributes:
        compute: `forward.eval_step` or `forward.layers`.
        model: the network.
        preprocessing: how images are prepared for it.
        layer: the layer to return; None for what is computed.
    """

    compute: Callable[..., Any]
    model: Network
    preprocessing: Preprocessing
    layer: str | None = None

    def __call__(
        self, weights: Weights, images: UInt8[Array, "n h w c"]
    ) -> Float[Array, "n ..."]:
        variables, statistics = weights
        found = self.compute(
            variables,
            images,
            statistics,
            model=self.model,
            preprocessing=self.preprocessing,
        )
        return found if self.layer is None else found[self.layer].astype(np.float32)


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
    function = _Function(forward.eval_step, network.model, network.preprocessing)
    weights = network.variables, network.statistics
    return batching.apply(function, weights, images, batch_size, num_devices)


def features(
    network: Trained,
    images: UInt8[Any, "n h w c"],
    layer: str = forward.PENULTIMATE,
    batch_size: int = BATCH_SIZE,
) -> Float[np.ndarray, "n ..."]:
    """Returns the output of a layer for each image, like `predict_logits`.

    Args:
        network: a trained network.
        images: bytes.
        layer: one of the names in `Trained.layers`; by default, what goes into the last
            layer, which every network in MODELS has.
        batch_size: see `predict_logits`.

    Raises:
        UserError: an argument cannot be used.
        RunError: there is not enough memory.
    """
    check_type(network, "network", Trained)
    check_images(images, "images", network.image_shape)
    one = jax.ShapeDtypeStruct((1, *network.image_shape), np.uint8)
    found = jax.eval_shape(network.layers, one)
    if layer not in found:
        raise UserError(
            f"layer={layer!r} is unknown; this network has {', '.join(found)}"
        )
    function = _Function(forward.layers, network.model, network.preprocessing, layer)
    weights = network.variables, network.statistics
    row_bytes = found[layer].size * np.dtype(np.float32).itemsize
    return batching.apply(function, weights, images, batch_size, row_bytes=row_bytes)


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
        predict_logits(network, images[i : i + FEW], batch_size=FEW)
        for i in range(0, len(images), FEW)
    ]
    return np.asarray(jax.nn.softmax(np.concatenate(logits), axis=-1))
