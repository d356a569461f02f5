"""Writes weights with h5py in the formats of different Keras versions.

The formats were checked against files written by Keras 2.13, 2.15, 3.3 and 3.15 and
tf_keras 2.21; golden/make_keras_files.py makes such files and compares them.
"""

import io
import json
import pathlib
import zipfile
from typing import Any, NamedTuple

import h5py
import numpy as np

from cifar_jax.models.keras.matching import known_networks


class Layer(NamedTuple):
    """A layer: its name, its type as Keras 3 stores it, and its weights."""

    name: str
    kind: str
    weights: dict[str, np.ndarray]


class Model(NamedTuple):
    """A model inside a model."""

    name: str
    layers: list[Layer]


# How Keras 3 spells the layer types.
_CLASSES = {
    "conv2d": "Conv2D",
    "dense": "Dense",
    "depthwise_conv2d": "DepthwiseConv2D",
    "separable_conv2d": "SeparableConv2D",
    "batch_normalization": "BatchNormalization",
    "input_layer": "InputLayer",
}


def layers_of(network: str) -> list[Layer]:
    """Returns a network's layers, small and all different, in Keras's order."""
    count = 0

    def array(*shape: int) -> np.ndarray:
        nonlocal count
        count += 1
        return np.full(shape, count, np.float32)

    def weights(kind: str) -> dict[str, np.ndarray]:
        if kind == "batch_normalization":
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            return {name: array(2) for name in names}
        if kind == "separable_conv2d":
            return {
                "depthwise_kernel": array(3, 3, 2, 1),
                "pointwise_kernel": array(1, 1, 2, 3),
            }
        if kind == "depthwise_conv2d":
            return {"depthwise_kernel": array(3, 3, 2, 1)}
        shape = (2, 3) if kind == "dense" else (3, 3, 2, 3)
        return {"kernel": array(*shape), "bias": array(3)}

    return [
        Layer(name, kind, weights(kind))
        for kind, names in known_networks()[network].items()
        for name in names
    ]


def write(path: pathlib.Path, layers: list[Layer | Model], **options) -> pathlib.Path:
    """Writes a file in the format given by the end of its name.

    The options are those of `write_numbered`, for formats with numbered groups.
    """
    if path.name.endswith(".weights.h5"):
        with h5py.File(path, "w") as file:
            _write_numbered(file, layers, **options)
    elif path.suffix == ".keras":
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _write_numbered(file, layers, **options)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", json.dumps(_config(layers)))
            archive.writestr("model.weights.h5", content.getvalue())
    else:
        with h5py.File(path, "w") as file:
            _write_named(file, layers, "{layer}/{weight}:0")
    return path


def write_first_version(path: pathlib.Path, layers: list[Layer]) -> pathlib.Path:
    """Writes an .h5 file as Keras did in 2016, with the list of layers in two parts."""
    with h5py.File(path, "w") as file:
        _write_named(file, layers, "{layer}_{short}_1:0")
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
    return path


def _write_numbered(
    group: h5py.Group,
    layers: list[Layer | Model],
    named: bool = True,
    container: str = "layers",
    separator: str = "/",
) -> None:
    """Writes layers into numbered groups.

    Args:
        group: The model's group.
        layers: The model's layers.
        named: Whether to write the names of layers too, as Keras has since 3.6.
        container: The name of the group of layers.
        separator: The separator in the names of groups.
    """
    # In this format, Keras counts every layer twice.
    step = 2 if container.endswith("_layer_checkpoint_dependencies") else 1
    for layer, own in zip(layers, _groups(layers, step), strict=True):
        place = f"{container}{separator}{own}"
        if isinstance(layer, Model):
            prefix = f"{place}{separator}{container}"
            _write_numbered(group, layer.layers, named, prefix, separator)
            continue
        values = group.create_group(f"{place}/vars")
        if named:
            values.attrs["name"] = layer.name
        for index, value in enumerate(layer.weights.values()):
            values[str(index)] = value


def _groups(layers: list[Layer | Model], step: int) -> list[str]:
    """Returns the names of the groups of layers, such as conv2d_1."""
    counts: dict[str, int] = {}
    groups = []
    for layer in layers:
        kind = "functional" if isinstance(layer, Model) else layer.kind
        number = counts.get(kind, 0)
        counts[kind] = number + step
        groups.append(f"{kind}_{number}" if number else kind)
    return groups


def _config(layers: list[Layer | Model], name: str = "model") -> dict[str, Any]:
    """Returns the contents of a model's config.json."""
    own = [
        _config(layer.layers, layer.name)
        if isinstance(layer, Model)
        else {
            "class_name": _CLASSES.get(layer.kind, "Custom"),
            "config": {"name": layer.name},
        }
        for layer in layers
    ]
    return {"class_name": "Functional", "config": {"name": name, "layers": own}}


def _write_named(file: h5py.File, layers: list[Layer | Model], pattern: str) -> None:
    short = {
        "kernel": "W",
        "bias": "b",
        "moving_mean": "running_mean",
        "moving_variance": "running_std",
    }
    layers = [Layer("input_1", "input_layer", {}), *layers]
    file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
    for layer in layers:
        group = file.create_group(layer.name)
        names = []
        for own in layer.layers if isinstance(layer, Model) else [layer]:
            for weight, value in own.weights.items():
                text = pattern.format(
                    layer=own.name, weight=weight, short=short.get(weight, weight)
                )
                names.append(text.encode())
                group[text] = value
        group.attrs["weight_names"] = names
