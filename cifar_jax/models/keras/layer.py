"""A layer of a Keras model, and how its weights are read from HDF5."""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Float, Shaped

from cifar_jax.errors import UserError


class Layer(NamedTuple):
    """A layer of a Keras model.

    Attributes:
        name: of the layer; None if the file does not say.
        weights: by their names, such as kernel.
        kind: its class as Keras 3 writes it, such as conv2d; empty if the file does not
            say.
        place: the models in the model that it is in; empty for the outermost one.
    """

    name: str | None
    weights: dict[str, Shaped[np.ndarray, "..."]]
    kind: str = ""
    place: tuple[str, ...] = ()


def value(group: Any, key: str, layer: str, weight: str) -> Float[np.ndarray, "..."]:
    """Returns a weight of a layer; raises UserError if it cannot be read."""
    try:
        array = group[key][()]
    except (KeyError, OSError):
        raise UserError(f"{weight} of layer {layer!r} is missing or damaged") from None
    # h5py knows no bfloat16: for it, these are two bytes of no meaning.
    if array.dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16).astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{weight} of layer {layer!r} is of the type {array.dtype}; supported are "
            "float16, bfloat16, float32 and float64"
        )
    return array
