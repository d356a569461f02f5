"""Weights of Keras models as variables of the networks that replicate them."""

import collections
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from cifar_jax.errors import UserError
from cifar_jax.models.keras import files as keras_files
from cifar_jax.models.keras.files import Layer

Collection = dict[str, dict[str, Float32[np.ndarray, "..."]]]

# The collection and the name in it of each weight of Keras.
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
# The name of a layer that was not given one: its kind, and a number except for the
# first one that a process has made.
_AUTOMATIC = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")


def from_keras(source: Any) -> dict[str, Collection]:
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

    Returns:
        {"params": ..., "batch_stats": ...}; without BatchNorm, the latter is empty.

    Raises:
        UserError: the file cannot be read, or a weight has no known counterpart.
    """
    if isinstance(source, str | os.PathLike):
        layers = keras_files.read(os.fspath(source))
    else:
        layers = [
            Layer(layer.name, {w.name: np.asarray(w) for w in layer.weights})
            for layer in source.layers
        ]
    first = _first_numbers(layers)
    variables: dict[str, Collection] = {"params": {}, "batch_stats": {}}
    for layer in layers:
        for weight, value in layer.weights.items():
            if weight not in _LEAVES:
                raise UserError(
                    f"Keras layer {layer.name!r} has an unsupported weight {weight!r}; "
                    f"supported are {', '.join(_LEAVES)}, as in keras.applications"
                )
            collection, leaf = _LEAVES[weight]
            name = _renumbered(layer.name, first)
            if "pointwise_kernel" in layer.weights:
                # Two layers here, whose names end differently.
                name += "_" + weight.removesuffix("_kernel")
            variables[collection].setdefault(name, {})[leaf] = _converted(leaf, value)
    return variables


def _converted(leaf: str, value: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Returns a weight as Flax has it."""
    value = np.asarray(value, np.float32)
    # Of these networks' convolutions, only a depthwise one has one output per input.
    if leaf == "kernel" and value.ndim == 4 and value.shape[-1] == 1:
        # In Flax, this is a grouped convolution with one channel per group.
        return value.reshape(*value.shape[:2], 1, -1)
    return value


def _first_numbers(layers: list[Layer]) -> dict[str, int]:
    """Returns the lowest number of the layers of each kind without names."""
    numbers: dict[str, list[int]] = collections.defaultdict(list)
    for layer in layers:
        if found := _AUTOMATIC.fullmatch(layer.name):
            numbers[found[1]].append(int(found[2] or 0))
    return {kind: min(values) for kind, values in numbers.items()}


def _renumbered(name: str, first: Mapping[str, int]) -> str:
    """Returns a layer's name as it would be in the first model of a process."""
    found = _AUTOMATIC.fullmatch(name)
    if not found:
        return name
    number = int(found[2] or 0) - first[found[1]]
    return f"{found[1]}_{number}" if number else found[1]
