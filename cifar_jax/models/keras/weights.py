"""Weights of Keras models as variables of the networks that replicate them."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped

from cifar_jax.errors import UserError
from cifar_jax.models.keras import files as keras_files
from cifar_jax.models.keras import matching
from cifar_jax.models.keras.layer import Layer
from cifar_jax.models.variables import check_finite

Collection = dict[str, dict[str, Float32[np.ndarray, "..."]]]

# The collection of each Keras weight, and its name there.
_LEAVES: Mapping[str, tuple[str, str]] = {
    "kernel": ("params", "kernel"),
    "depthwise_kernel": ("params", "kernel"),
    "pointwise_kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}

# HDF5 has no checksums. One wrong bit in an exponent can turn 0.01 into 2e17 or 3e36,
# for example; even variances of sums of pixels, from 0 to 255, stay below this.
_LARGEST = 1e12


class Converted(NamedTuple):
    """The weights of a Keras model that a network has.

    Attributes:
        variables: {"params": ..., "batch_stats": ...}.
        left_out: the layers that the network does not have: the model's own head.
    """

    variables: dict[str, Collection]
    left_out: tuple[str, ...]


def from_keras(source: Any, model: str | None = None) -> dict[str, Collection]:
    """Converts the weights of a Keras model to the variables of a network.

    This works for the networks whose layers have Keras's names: vgg16, vgg19, resnet50,
    mobilenet, inception_v3, xception and inception_resnet_v2. For example, with Keras's
    ImageNet weights::

        keras_model = keras.applications.VGG16(weights="imagenet")
        variables = models.from_keras(keras_model)
        prepared = keras.applications.vgg16.preprocess_input(images)
        logits = models.create("vgg16").apply(variables, prepared)

    The images must be preprocessed as Keras does for that model: in this example, it
    takes pixels from 0 to 255, converts RGB to BGR and subtracts a mean color.

    Args:
        source: the name of a .weights.h5, .h5 or .keras file, which h5py reads without
            Keras; or a Keras model on any backend, or any object whose `layers` have a
            `name` and `weights`, which are arrays with a `name`.
        model: the network; None to find the one of these seven that has these layers.
            Layers of other networks keep their names.

    Returns:
        {"params": ..., "batch_stats": ...}; without BatchNorm, the latter is empty, and
        without the model's head, as with include_top=False, the network's is missing.

    Raises:
        UserError: the file cannot be read; a weight has no known counterpart, or is not
            finite; layers are missing, are not the network's, or cannot be told apart.
    """
    variables, left_out = convert(source, model)
    if left_out:
        raise UserError(
            f"{_name(source)} has more than the network: it also has the layers "
            f"{', '.join(left_out)}; train --init_from can start from it without them"
        )
    return variables


def convert(source: Any, model: str | None) -> Converted:
    """Does what `from_keras` does, but drops a head that is not the network's.

    Raises:
        UserError: as `from_keras` does.
    """
    if isinstance(source, str | os.PathLike):
        layers = keras_files.read(os.fspath(source))
    elif not hasattr(source, "layers"):
        raise UserError(
            f"source={source!r} must be the name of a Keras file, or a Keras model"
        )
    else:
        layers = list(_layers(source))
    try:
        found, left_out = matching.match(layers, model)
        variables = _variables(found)
        check_finite(variables, "it")
    except UserError as error:
        raise UserError(f"{_name(source)}: {error}") from None
    return Converted(variables, left_out)


def _variables(layers: Mapping[str, Layer]) -> dict[str, Collection]:
    variables: dict[str, Collection] = {"params": {}, "batch_stats": {}}
    for name, layer in layers.items():
        for weight, value in layer.weights.items():
            if weight not in _LEAVES:
                raise UserError(
                    f"Keras layer {layer.name!r} has an unsupported weight {weight!r}; "
                    f"supported are {', '.join(_LEAVES)}, as in keras.applications"
                )
            value = _single(value, weight, layer.name)
            collection, leaf = _LEAVES[weight]
            own = name
            if "pointwise_kernel" in layer.weights:
                # Here these are two layers, whose names end differently.
                own += "_" + weight.removesuffix("_kernel")
            if _is_depthwise(name, weight, value):
                # In Flax, this is a grouped convolution with one channel per group.
                height, width, inputs, per_input = value.shape
                value = value.reshape(height, width, 1, inputs * per_input)
            variables[collection].setdefault(own, {})[leaf] = value
    return variables


def _single(
    value: Shaped[Any, "..."], weight: str, layer: str | None
) -> Float32[np.ndarray, "..."]:
    """Returns a weight in float32.

    Raises:
        UserError: no working network has such values.
    """
    value = np.asarray(value)
    largest = np.abs(value).max(initial=0)
    if _LARGEST < largest < np.inf:
        raise UserError(
            f"{weight} of layer {layer!r} has the value {largest:.3g}, too large for "
            "a weight, so it is damaged"
        )
    with np.errstate(over="ignore"):  # next to NaN, a value may be larger
        single: np.ndarray = value.astype(np.float32, copy=False)
    return single


def _is_depthwise(name: str, weight: str, value: np.ndarray) -> bool:
    """Returns whether it is a depthwise kernel, which some versions call kernel."""
    # Of these networks' convolutions, only depthwise ones have one output per input;
    # but a head may have a single class.
    one_output = value.shape[-1:] == (1,) and name not in matching.HEADS
    named = weight == "depthwise_kernel" or (weight == "kernel" and one_output)
    return named and value.ndim == 4


def _layers(model: Any) -> Iterator[Layer]:
    """Yields the layers of a Keras model, including those of models inside it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        elif layer.weights:
            # In Keras 2, the name is conv1/kernel:0.
            weights = {w.name.split("/")[-1].split(":")[0]: w for w in layer.weights}
            yield Layer(layer.name, {n: np.asarray(w) for n, w in weights.items()})


def _name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"the Keras model {getattr(source, 'name', '')}".strip()
