"""A layer of a Keras model, and how its weights are read from HDF5."""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Float, Shaped

from cifar_jax.errors import UserError


class Layer(NamedTuple):
    """A layer of a Keras model.

    Attributes:
        name: layer name; None if the file has none.
        weights: weights by name, such as kernel.
        kind: its class as Keras 3 writes it, such as conv2d; empty if the file does not
            say.
        place: the nested models that it is in; empty for the outermost model.
    """

    name: str | None
    weights: dict[str, Shaped[np.ndarray, "..."]]
    kind: str = ""
    place: tuple[str, ...] = ()


def value(group: Any, key: str, layer: str, weight: str) -> Float[np.ndarray, "..."]:
    """Returns a weight of a layer.

    Raises:
        UserError: it is missing or damaged, is not an array of floats, or not all of
            its bytes are in the file, as Keras writes them.
    """
    name = f"{weight} of layer {layer!r}"
    try:
        dataset = group[key]
        _check(dataset, name)
        array = np.asarray(dataset[()])
    except (KeyError, OSError):
        raise UserError(f"{name} is missing or damaged") from None
    # To h5py, which does not know bfloat16, these are two bytes without meaning.
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16).astype(np.float32)
    return array


def _check(dataset: Any, name: str) -> None:
    """Raises UserError unless an HDF5 object can be read as a weight."""
    from h5py import h5t

    if getattr(dataset, "shape", None) is None:
        raise UserError(f"{name} is not an array")
    kind = dataset.id.get_type()
    # Exactly these, because HDF5 reads any format of floats that a file describes.
    known = (h5t.IEEE_F16LE, h5t.IEEE_F32LE, h5t.IEEE_F64LE)
    if kind not in known and dataset.dtype != np.dtype("V2"):
        raise UserError(
            f"{name} is of type {dataset.dtype}; supported are little-endian float16, "
            "bfloat16, float32 and float64 in IEEE's formats"
        )
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{name} is in another file, which is not read")
    if dataset.id.get_create_plist().get_nfilters():
        raise UserError(
            f"{name} is compressed, which Keras does not do; uncompress the file with "
            "h5repack -f NONE"
        )
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise UserError(f"{name} is damaged: not all of its bytes are in the file")
