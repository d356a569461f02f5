"""Conversion of Keras weights for the networks that replicate Keras models."""

import collections
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from cifar_jax.errors import UserError

Collection = dict[str, dict[str, Float32[np.ndarray, "..."]]]

# Maps Keras layer types and weight names to collections and leaf names.
_LINEAR = {"kernel": ("params", "kernel"), "bias": ("params", "bias")}
_LEAVES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Conv2D": _LINEAR,
    "DepthwiseConv2D": _LINEAR,
    # Two layers here, whose names end differently.
    "SeparableConv2D": {
        "depthwise_kernel": ("params", "kernel"),
        "pointwise_kernel": ("params", "kernel"),
    },
    "Dense": _LINEAR,
    "BatchNormalization": {
        "gamma": ("params", "scale"),
        "beta": ("params", "bias"),
        "moving_mean": ("batch_stats", "mean"),
        "moving_variance": ("batch_stats", "var"),
    },
}

# The name of a layer that was not given one: its kind, and a number except for the
# first one that a process has made.
_AUTOMATIC = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")


def from_keras(keras_model: Any) -> dict[str, Collection]:
    """Converts the weights of a Keras 3 model to the variables of a network.

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
        keras_model: A Keras model on any backend, or any object whose `layers` have a
            `name` and `weights`, which are arrays with a `name`.

    Returns:
        {"params": ..., "batch_stats": ...}; without BatchNorm, the latter is empty.

    Raises:
        UserError: A weight has no known counterpart.
    """
    variables: dict[str, Collection] = {"params": {}, "batch_stats": {}}
    first = _first_numbers(layer.name for layer in keras_model.layers)
    for layer in keras_model.layers:
        kind = type(layer).__name__
        name = _renumbered(layer.name, first)
        for weight in layer.weights:
            if weight.name not in _LEAVES.get(kind, {}):
                raise UserError(
                    f"Keras layer {layer.name!r} of type {kind} has an unsupported "
                    f"weight {weight.name!r}; supported layer types are "
                    f"{', '.join(_LEAVES)}, as used in keras.applications"
                )
            collection, leaf = _LEAVES[kind][weight.name]
            value = np.asarray(weight, np.float32)
            is_depthwise = weight.name == "depthwise_kernel" or (
                kind == "DepthwiseConv2D" and leaf == "kernel"
            )
            if is_depthwise:
                # In Flax, this is a grouped convolution with one channel per group.
                value = value.reshape(*value.shape[:2], 1, -1)
            own = name
            if kind == "SeparableConv2D":
                own += "_" + weight.name.removesuffix("_kernel")
            variables[collection].setdefault(own, {})[leaf] = value
    return variables


def _first_numbers(names: Iterable[str]) -> dict[str, int]:
    """Returns the lowest number of the layers of each kind without names."""
    numbers: dict[str, list[int]] = collections.defaultdict(list)
    for name in names:
        if found := _AUTOMATIC.fullmatch(name):
            numbers[found[1]].append(int(found[2] or 0))
    return {kind: min(values) for kind, values in numbers.items()}


def _renumbered(name: str, first: Mapping[str, int]) -> str:
    """Returns a layer's name as it would be in the first model of a process."""
    found = _AUTOMATIC.fullmatch(name)
    if not found:
        return name
    number = int(found[2] or 0) - first[found[1]]
    return f"{found[1]}_{number}" if number else found[1]
