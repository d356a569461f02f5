"""The .h5 files that all versions of Keras can write, with layer names."""

import re
from typing import Any

import numpy as np

from cifar_jax.errors import UserError
from cifar_jax.models.keras.layer import Layer, value

# Keras 1 named the weights of block1_conv1 block1_conv1_W and block1_conv1_b. Its
# running_std is really the variance: later versions read it as moving_variance.
_FIRST_VERSION = re.compile(
    r"(.+)_(W|b|gamma|beta|running_mean|running_std|depthwise_kernel|pointwise_kernel)"
    r"(?:_\d+)?"
)
_RENAMED = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
# Kernels of the networks here are at most this high and wide.
_LARGEST_KERNEL = 7


def is_named_file(file: Any) -> bool:
    """Returns whether an HDF5 file is one of these."""
    return "model_weights" in file or bool(_texts(file, "layer_names"))


def layers(file: Any, name: str) -> list[Layer]:
    """Returns the layers of an HDF5 file in the order of the model.

    Args:
        file: the HDF5 file.
        name: its name, which may say that its kernels are Theano's.

    Raises:
        UserError: a weight is damaged, or kernels have their channels first.
    """
    # A whole model has its weights in a group.
    root = file.get("model_weights", file)
    found: list[Layer] = []
    left = 2 * file.id.get_filesize()  # bfloat16 becomes float32
    for layer in _texts(root, "layer_names"):
        groups = (file, root, root[layer])
        backends = {text for group in groups for text in _texts(group, "backend")}
        for own, weights in _weights(root[layer], layer).items():
            if "theano" in backends or "th_kernels" in name:
                weights = {key: _turn(key, array) for key, array in weights.items()}
            left -= sum(array.nbytes for array in weights.values())
            if left < 0:
                raise UserError(f"it has the weights of layer {own!r} several times")
            _refuse_channels_first(own, weights)
            found.append(Layer(own, weights))
    return found


def _weights(group: Any, layer: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns the weights of a layer, or those of each layer if it is a model."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for text in _texts(group, "weight_names"):
        own, weight = _split(text, layer)
        array = value(group, text, own, weight)
        if found.setdefault(own, {}).setdefault(weight, array) is not array:
            raise UserError(f"it has two weights {weight} of layer {own!r}")
    if len(found) == 1:
        # A weight's name may begin differently than the layer's own name: the second
        # of two models with a block1_conv1 has block1_conv1_1/kernel.
        (weights,) = found.values()
        return {layer: weights}
    return found


def _split(text: str, layer: str) -> tuple[str, str]:
    """Splits a name such as block1_conv1/kernel:0 into layer and weight."""
    *places, last = text.split(":")[0].split("/")
    if places:
        return places[-1], last
    if found := _FIRST_VERSION.fullmatch(last):
        return found[1], _RENAMED.get(found[2], found[2])
    return layer, last


def _turn(weight: str, array: np.ndarray) -> np.ndarray:
    """Converts a weight of Keras on Theano to what other backends have.

    Theano convolves while others correlate, so kernels are rotated by 180 degrees.
    Those of depthwise convolutions are not, as Keras rotated them itself before it
    called Theano (`_preprocess_conv2d_depthwise_kernel` in its Theano backend).
    """
    return array[::-1, ::-1] if weight == "kernel" and array.ndim == 4 else array


def _refuse_channels_first(layer: str, weights: dict[str, np.ndarray]) -> None:
    for weight, array in weights.items():
        if array.ndim == 4 and max(array.shape[2:]) <= _LARGEST_KERNEL < array.shape[0]:
            raise UserError(
                f"{weight} of layer {layer!r} has its channels first, as Keras 1 wrote "
                f"it for Theano (its shape is {array.shape}); pass a file with them "
                "last, whose published name has tf_dim_ordering"
            )


def _texts(group: Any, name: str) -> list[str]:
    """Returns a string or a list of strings; long lists are in numbered parts."""
    parts = [name] if name in group.attrs else []
    while (part := f"{name}{len(parts)}") in group.attrs:
        parts.append(part)
    return [
        text.decode() if isinstance(text, bytes) else str(text)
        for part in parts
        for text in np.atleast_1d(group.attrs[part])
    ]
