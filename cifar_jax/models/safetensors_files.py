"""Variables in safetensors files, named by paths such as params/conv1/kernel."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from jaxtyping import PyTree, Shaped

from cifar_jax import plugins
from cifar_jax.checks import check_regular_file
from cifar_jax.console import to_one_line
from cifar_jax.errors import UserError
from cifar_jax.models.variables import Variables, check_finite

# The file in an export's folder.
NAME = "model.safetensors"
# Format of the description; files with any other one cannot be read.
FORMAT = 1
# The only key in the metadata, whose values are strings: the description as JSON.
_KEY = "config"
# The key of the `digest` in the description; earlier exports do not have it.
_DIGEST = "digest"
# In bytes. The header has the metadata and the names of all variables.
_LARGEST_HEADER = 16 << 20
# The types that can be read; all become float32.
_DTYPES = ("F32", "F16", "BF16")


class Contents(NamedTuple):
    """The contents of a file.

    Attributes:
        description: details about the variables: at least the network's name, `model`,
            and the names of its last layer's labels, `class_names`; and `imports`, if
            the network is not from this package (see `plugins.find_used`).
        variables: the network's variables by collection, layer and name.
        statistics: training image statistics by name, if inputs are normalized by them.
    """

    description: Mapping[str, Any]
    variables: Variables
    statistics: Mapping[str, PyTree]


def find_in_export(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file in an export's folder; None if it is not such a folder."""
    try:
        is_run = (folder / "checkpoints").exists()
        return folder / NAME if (folder / NAME).is_file() and not is_run else None
    except OSError:  # whoever reads the folder reports what is wrong with it
        return None


def to_bytes(description: Mapping[str, Any], variables: Mapping[str, PyTree]) -> bytes:
    """Returns the contents of a file.

    Args:
        description: details about the variables, for JSON: `format`, `model`,
            `class_names` and whatever else readers may want to know.
        variables: trees of arrays by collection, a network's and others.
    """
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    arrays = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    whole = {**description, _DIGEST: digest(description, arrays)}
    metadata = {_KEY: json.dumps(whole, allow_nan=False)}
    return safetensors.numpy.save(arrays, metadata)


def digest(
    description: Mapping[str, Any], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> str:
    """Returns the SHA-256 of a file's contents, regardless of its layout.

    Args:
        description: the description, without the digest.
        arrays: the arrays by name, in the types that the file stores.
    """
    names = sorted(arrays)
    layout = [(name, arrays[name].dtype.name, arrays[name].shape) for name in names]
    text = json.dumps([description, layout], sort_keys=True)
    whole = hashlib.sha256(text.encode())
    for name in names:
        whole.update(arrays[name].tobytes())
    return whole.hexdigest()


def read(path: str | os.PathLike[str], sha256: str | None = None) -> Contents:
    """Reads a file, which may be untrusted.

    A file with a `digest` in its description is verified.

    Args:
        path: path of the file.
        sha256: the digest that it must have, if that is known from elsewhere.

    Raises:
        UserError: the file cannot be read, is damaged, has no description of FORMAT, or
            has values that are not finite or not float32, float16 or bfloat16.
    """
    with opened(path) as file:
        description = _description(file.metadata() or {})
        arrays = {name: array(file, name) for name in sorted(file.keys())}
        check_finite(arrays, "it")
        known = [description.pop(_DIGEST, None), sha256]
        found = digest(description, arrays)
        if any(each not in (None, found) for each in known):
            raise UserError(
                f"its {_DIGEST} does not match, so it is damaged or was edited; get it "
                f"again, or if you edited it, leave {_DIGEST!r} out of its description"
            )
        plugins.check(description.get("imports", {}))
        nested = _nest({k: v.astype(np.float32, copy=False) for k, v in arrays.items()})
    variables = {name: nested.get(name, {}) for name in ("params", "batch_stats")}
    return Contents(description, variables, nested.get("statistics", {}))


def is_described(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file says that python -m cifar_jax.export wrote it.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    with opened(path) as file:
        return _KEY in (file.metadata() or {})


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Opens a file of any origin; errors while it is open become UserErrors."""
    path = check_regular_file(path)
    try:
        _check_header(path)
        with safetensors.safe_open(path, "np") as file:
            yield file
    except UserError as error:
        raise UserError(to_one_line(f"{path}: {error}")) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except safetensors.SafetensorError as error:
        raise UserError(
            to_one_line(f"{path} is damaged, or not a safetensors file: {error}")
        ) from None


def _check_header(path: pathlib.Path) -> None:
    """Refuses large headers, as JSON takes many times its size in memory."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST_HEADER:
        raise UserError(
            f"it is damaged, or not a safetensors file of a network: its header would "
            f"have {size:,} bytes"
        )


def _description(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the description, with at least the details that `Contents` lists."""
    try:
        description: dict[str, Any] = json.loads(metadata[_KEY])
        names = description["class_names"]
        whole = isinstance(description["model"], str) and isinstance(names, list)
        texts = [*names, *description.get("imports", {}).values()]
        known = whole and all(isinstance(text, str) for text in texts)
        version = description["format"]
    # Raised by texts that are not a description, even by those nested too deeply.
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        known = False
    if not known:
        raise UserError(
            "it does not say which network and classes it is for; pass a file written "
            "by python -m cifar_jax.export"
        )
    if version != FORMAT:
        raise UserError(
            f"its format is {version!r:.20}, and this version of cifar_jax reads "
            f"{FORMAT}; export it again with this version"
        )
    return description


def array(file: Any, name: str) -> Shaped[np.ndarray, "..."]:
    """Returns an array of an open file, as it is stored.

    Raises:
        UserError: it is not of one of the types that can be read.
    """
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise UserError(f"{name} is of type {dtype}, not {', '.join(_DTYPES)}")
    return file.get_tensor(name)


def _nest(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> dict[str, Any]:
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
