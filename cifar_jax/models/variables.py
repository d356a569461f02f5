"""Checks whether variables from elsewhere fit a network."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cifar_jax.errors import UserError
from cifar_jax.models.network import Network

Variables = Mapping[str, Mapping[str, PyTree]]


def num_classes(variables: Variables, network: Network, source: str) -> int:
    """Returns the number of classes in the last layer of these variables.

    Raises:
        UserError: there is no such layer.
    """
    head = network.classifier[-1]
    kernel = variables["params"].get(head, {}).get("kernel")
    if kernel is None or not kernel.ndim:
        raise UserError(
            f"{source} has no layer {head}, the last one of {_kind(network)}; pass "
            "weights with it, which Keras saves with include_top=True"
        )
    return int(kernel.shape[-1])


def drop_misfits(
    variables: Variables, network: Network, image_size: int
) -> tuple[Variables, tuple[str, ...]]:
    """Drops the classifier's layers from the first one that does not fit.

    A layer does not fit if it is missing or has another shape, because the number of
    classes or the image size differs.

    Returns:
        The remaining variables, and the names of the missing layers.
    """
    expected, found = shapes(network, image_size), _shapes(variables)
    layers = network.classifier
    fits = [
        all(
            found.get(name) == shape
            for name, shape in expected.items()
            if _is_in_layer(name, layer)
        )
        for layer in layers
    ]
    missing = layers[fits.index(False) :] if False in fits else ()
    return drop_layers(variables, missing), missing


def drop_layers(variables: Variables, layers: Collection[str]) -> Variables:
    """Returns the variables without some layers."""
    return {
        collection: {name: tree[name] for name in tree if name not in layers}
        for collection, tree in variables.items()
    }


def check(
    variables: Variables,
    network: Network,
    image_size: int,
    source: str,
    missing: tuple[str, ...] = (),
) -> None:
    """Checks that these are the variables of a network, no more and no fewer.

    Args:
        variables: the variables by collection, layer and name.
        network: the network that will use them.
        image_size: height and width of its inputs.
        source: where the variables come from, for the message.
        missing: layers that need not be there.

    Raises:
        UserError: a variable is missing, has another shape or is in another collection,
            or does not belong to the network.
    """
    if not _are_variables(variables):
        raise UserError(
            f"{source} must be arrays by collection and layer, such as "
            f"Trained.variables, not a {type(variables).__name__}"
        )
    found, kind = _shapes(variables), _kind(network)
    expected = {
        name: shape
        for name, shape in shapes(network, image_size).items()
        if not any(_is_in_layer(name, layer) for layer in missing)
    }
    for name in sorted(expected.keys() & found.keys()):
        if found[name] != expected[name]:
            raise UserError(
                f"{source} has {name} of shape {found[name]}, but in {kind} it has "
                f"shape {expected[name]}, for {network.num_classes} classes and images "
                f"of {image_size}x{image_size}"
            )
    for name in sorted(expected.keys() - found.keys()):
        raise UserError(
            f"{source} has no {name} of shape {expected[name]}, which {kind} has"
        )
    for name in sorted(found.keys() - expected.keys()):
        raise UserError(
            f"{source} has {name} of shape {found[name]}, which {kind} does not have"
        )
    places = _collections(_variables(network, image_size))
    for name, place in _collections(variables).items():
        if place != places[name]:
            raise UserError(
                f"{source} has {name} in {place}, but in {kind} it is in {places[name]}"
            )


def describe(variables: Variables) -> str:
    """Returns a short text that tells variables from others: part of their SHA-256."""
    whole = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        value = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        whole.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return f"SHA-256 {whole.hexdigest()[:16]}"


def _are_variables(value: Any) -> bool:
    """Returns whether this is a mapping of mappings with arrays in them."""
    if not isinstance(value, Mapping):
        return False
    return all(
        len(path) > 1
        and all(isinstance(key, jax.tree_util.DictKey) for key in path)
        and hasattr(leaf, "shape")
        for path, leaf in jax.tree_util.tree_leaves_with_path(value)
    )


def check_finite(variables: PyTree, source: str) -> None:
    """Checks that all values of variables are finite.

    Args:
        variables: trees of arrays by name.
        source: where they come from, for the message.

    Raises:
        UserError: a value is NaN or infinite.
    """
    for path, value in jax.tree_util.tree_leaves_with_path(variables):
        wrong = np.size(value) - np.count_nonzero(np.isfinite(value))
        if wrong:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{source} has non-finite values in {name} ({wrong} of "
                f"{np.size(value)}), so it cannot be used: it is damaged, or its "
                "training failed"
            )


def shapes(network: Network, image_size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's variables by name."""
    return _shapes(_variables(network, image_size))


def _variables(network: Network, image_size: int) -> Variables:
    """Returns the variables of a network, without their values."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


def _shapes(variables: Variables) -> dict[str, tuple[int, ...]]:
    """Returns the shapes by names such as conv1/kernel."""
    return {
        "/".join(key.key for key in path[1:]): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }


def _collections(variables: Variables) -> dict[str, str]:
    """Returns each variable's collection, such as params, by such names."""
    return {
        name: collection
        for collection, tree in variables.items()
        for name in _shapes({collection: tree})
    }


def _is_in_layer(name: str, layer: str) -> bool:
    return name.startswith(f"{layer}/")


def _kind(network: Network) -> str:
    return type(network).__name__
