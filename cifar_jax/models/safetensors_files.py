"""Variables in safetensors files, named by their paths, such as params/conv1/kernel."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from jaxtyping import Float32, PyTree, Shaped

from cifar_jax import plugins
from cifar_jax.errors import UserError
from cifar_jax.models.variables import Variables, check_finite

# The file in an export's folder.
NAME = "model.safetensors"
# Of the description; files with another one cannot be read.
FORMAT = 1
# The only key of the metadata, whose values are texts: the description as JSON.
_KEY = "config"
# What is read; all of it becomes float32.
_DTYPES = ("F32", "F16", "BF16")


class Contents(NamedTuple):
    """What is in a file.

    Attributes:
        description: what is known of the variables: at least the name of the network,
            `model`, and the names of the labels of its last layer, `class_names`; and
            `imports`, if the network is not of this package, see `plugins.used`.
        variables: of the network, by collection, layer and name.
        statistics: of the training images by name, if inputs are normalized by them.
    """

    description: Mapping[str, Any]
    variables: Variables
    statistics: Mapping[str, PyTree]


def in_export(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of an export in a folder; None if it is not such a folder."""
    try:
        is_run = (folder / "checkpoints").exists()
        return folder / NAME if (folder / NAME).is_file() and not is_run else None
    except OSError:  # who reads the folder says what is wrong with it
        return None


def to_bytes(description: Mapping[str, Any], variables: Mapping[str, PyTree]) -> bytes:
    """Returns the contents of a file.

    Args:
        description: what is known of the variables, for JSON: `format`, `model`,
            `class_names` and whatever else readers may want to know.
        variables: trees of arrays by collection; those of a network, and others.
    """
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    arrays = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    metadata = {_KEY: json.dumps(description, allow_nan=False)}
    return safetensors.numpy.save(arrays, metadata)


def read(path: pathlib.Path) -> Contents:
    """Reads a file, which may come from anyone.

    Raises:
        UserError: the file cannot be read, is damaged, has no description of FORMAT, or
            has numbers of another type than float32, float16 and bfloat16, or that are
            not finite.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, "np") as file:
            description = _description(file.metadata() or {})
            plugins.check(description.get("imports", {}))
            arrays = {name: _array(file, name) for name in sorted(file.keys())}
        nested = _nested(arrays)
        check_finite(nested, "it")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is damaged, or not a safetensors file: {error}"
        ) from None
    variables = {name: nested.get(name, {}) for name in ("params", "batch_stats")}
    return Contents(description, variables, nested.get("statistics", {}))


def _description(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the description, which says at least what `Contents` has of it."""
    try:
        description = json.loads(metadata[_KEY])
        names = description["class_names"]
        whole = isinstance(description["model"], str) and isinstance(names, list)
        texts = [*names, *description.get("imports", {}).values()]
        known = whole and all(isinstance(text, str) for text in texts)
        version = description["format"]
    # What a text that is no description raises, even one that is nested too deeply.
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        known = False
    if not known:
        raise UserError(
            "it does not say which network and classes it is of; give a file that "
            "python -m cifar_jax.export wrote"
        )
    if version != FORMAT:
        raise UserError(
            f"its format is {version!r:.20}, and this version of cifar_jax reads "
            f"{FORMAT}; export it again with this version"
        )
    return description


def _array(file: Any, name: str) -> Float32[np.ndarray, "..."]:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise UserError(f"{name} is of type {dtype}, not {', '.join(_DTYPES)}")
    return file.get_tensor(name).astype(np.float32)


def _nested(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> dict[str, Any]:
    """Returns trees of the arrays, whose names are sorted."""
    trees: dict[str, Any] = {}
    for name, array in arrays.items():
        *places, last = name.split("/")
        tree = trees
        for place in places:
            tree = tree.setdefault(place, {})
            if not isinstance(tree, dict):
                break
        if not places or not isinstance(tree, dict) or last in tree:
            raise UserError(f"{name} is not the name of a variable")
        tree[last] = array
    return trees
