"""Weights in the files of Keras, read by h5py without Keras."""

import contextlib
import io
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from cifar_jax.errors import UserError


class Layer(NamedTuple):
    """A layer of a Keras model.

    Attributes:
        name: of the layer.
        weights: by their names, such as kernel.
    """

    name: str
    weights: dict[str, Shaped[np.ndarray, "..."]]


# The names of a layer's weights in .weights.h5 and .keras files, which only number
# them, by the kind of the layer and the number of its weights.
_NUMBERED = {
    ("conv2d", 1): ("kernel",),
    ("conv2d", 2): ("kernel", "bias"),
    ("dense", 1): ("kernel",),
    ("dense", 2): ("kernel", "bias"),
    ("depthwise_conv2d", 1): ("depthwise_kernel",),
    ("separable_conv2d", 2): ("depthwise_kernel", "pointwise_kernel"),
    ("batch_normalization", 3): ("beta", "moving_mean", "moving_variance"),
    ("batch_normalization", 4): ("gamma", "beta", "moving_mean", "moving_variance"),
}
# How the first version of Keras named the weights of block1_conv1: block1_conv1_W_1.
_FIRST_VERSION = re.compile(r".*_(W|b)(?:_\d+)?")


def read(path: str | pathlib.Path) -> list[Layer]:
    """Reads the layers with weights of a .weights.h5, .h5 or .keras file.

    Raises:
        UserError: h5py is not installed; the file does not exist, is damaged, or has no
            weights of Keras; or a layer is of an unknown kind.
    """
    path = pathlib.Path(path)
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"reading {path} needs h5py: pip install 'cifar-jax[weights]'"
        ) from None
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(h5py.File(_contents(path), "r"))
            layers = list(_numbered(file) if "layers" in file else _named(file))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a directory, not a file of weights") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # h5py and zipfile raise many kinds of errors when a file is damaged.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged, or not a weights file of Keras: {reason}"
        ) from None
    if not layers:
        raise UserError(f"{path} has no weights of Keras layers")
    return layers


def _contents(path: pathlib.Path) -> pathlib.Path | io.BytesIO:
    """Returns the HDF5 file; that in the archive if it is a .keras file."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return path
        with zipfile.ZipFile(file) as archive:
            return io.BytesIO(archive.read("model.weights.h5"))


def _numbered(file: Any) -> Iterator[Layer]:
    """Yields the layers of a .weights.h5 file of Keras 3."""
    for group, layer in file["layers"].items():
        values = layer["vars"]
        if not len(values):
            continue
        kind = re.sub(r"_\d+$", "", group)
        name = str(values.attrs.get("name", group))
        names = _NUMBERED.get((kind, len(values)))
        if names is None:
            known = ", ".join(sorted({kind for kind, _ in _NUMBERED}))
            raise UserError(
                f"layer {name!r} is of the kind {kind}, with {len(values)} weights; "
                f"supported are {known}, as in keras.applications"
            )
        yield Layer(
            name, {n: _value(values, str(i), name, n) for i, n in enumerate(names)}
        )


def _named(file: Any) -> Iterator[Layer]:
    """Yields the layers of an .h5 file as all versions of Keras can write it."""
    # A whole model has its weights in a group.
    root = file.get("model_weights", file)
    for name in _texts(root, "layer_names"):
        weights = {
            (own := _own_name(weight)): _value(root[name], weight, name, own)
            for weight in _texts(root[name], "weight_names")
        }
        if weights:
            yield Layer(name, weights)


def _value(group: Any, key: str, layer: str, weight: str) -> Shaped[np.ndarray, "..."]:
    """Returns a weight of a layer; raises UserError if it cannot be read."""
    try:
        return group[key][()]
    except (KeyError, OSError):
        raise UserError(f"{weight} of layer {layer!r} is missing or damaged") from None


def _own_name(weight: str) -> str:
    """Returns kernel of block1_conv1/kernel:0, or of block1_conv1/kernel in Keras 3."""
    own = weight.split("/")[-1].split(":")[0]
    if found := _FIRST_VERSION.fullmatch(own):
        return {"W": "kernel", "b": "bias"}[found[1]]
    return own


def _texts(group: Any, name: str) -> list[str]:
    """Returns a list of texts, which is in parts named by numbers if it is long."""
    parts = [name] if name in group.attrs else []
    while (part := f"{name}{len(parts)}") in group.attrs:
        parts.append(part)
    return [
        text.decode() if isinstance(text, bytes) else str(text)
        for part in parts
        for text in group.attrs[part]
    ]
