"""Weights of Keras models, for the networks that are built like them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from cifar_jax.errors import UserError

Collection = dict[str, dict[str, Float32[np.ndarray, "..."]]]

# Kind of layer, name of the weight in Keras: collection and name of the leaf here.
_LINEAR = {"kernel": ("params", "kernel"), "bias": ("params", "bias")}
_LEAVES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Conv2D": _LINEAR,
    "DepthwiseConv2D": _LINEAR,
    "Dense": _LINEAR,
    "BatchNormalization": {
        "gamma": ("params", "scale"),
        "beta": ("params", "bias"),
        "moving_mean": ("batch_stats", "mean"),
        "moving_variance": ("batch_stats", "var"),
    },
}


def from_keras(keras_model: Any) -> dict[str, Collection]:
    """The weights of a Keras 3 model as the variables of a network.

    For the networks whose layers carry Keras's names: vgg16, vgg19, resnet50 and
    mobilenet. With the weights that Keras offers for ImageNet::

        theirs = keras.applications.VGG16(weights="imagenet")
        variables = models.from_keras(theirs)
        prepared = keras.applications.vgg16.preprocess_input(images)
        logits = models.create("vgg16").apply(variables, prepared)

    The images must be prepared as Keras prepares them for that model: in this example
    it takes pixels of 0 to 255, turns RGB into BGR and subtracts a mean colour.

    Args:
        keras_model: anything like a Keras model, on any of its backends: its `layers`
            have a `name` and `weights`, and those are arrays with a `name`.

    Returns:
        {"params": ..., "batch_stats": ...}; without BatchNorm the latter is empty.

    Raises:
        UserError: there is a weight whose place is not known.
    """
    variables: dict[str, Collection] = {"params": {}, "batch_stats": {}}
    for layer in keras_model.layers:
        kind = type(layer).__name__
        for weight in layer.weights:
            if weight.name not in _LEAVES.get(kind, {}):
                raise UserError(
                    f"the Keras layer {layer.name!r} of kind {kind} has a weight "
                    f"{weight.name!r}, which has no place here; the kinds that do "
                    f"are {', '.join(_LEAVES)}, as keras.applications uses them"
                )
            collection, leaf = _LEAVES[kind][weight.name]
            value = np.asarray(weight, np.float32)
            if kind == "DepthwiseConv2D" and leaf == "kernel":
                # For Flax, a convolution in groups of one channel each.
                value = value.reshape(*value.shape[:2], 1, -1)
            variables[collection].setdefault(layer.name, {})[leaf] = value
    return variables
