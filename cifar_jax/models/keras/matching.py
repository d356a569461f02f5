"""Matches the layers of a Keras model to those of a network."""

import collections
import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cifar_jax.errors import UserError
from cifar_jax.models.keras import names
from cifar_jax.models.keras.layer import Layer

# The layers that turn features into classes, which a model may replace by its own.
HEADS = frozenset({"fc1", "fc2", "predictions", "conv_preds"})
# The kinds of layers that a model may have more of, for its own head.
_KINDS_OF_HEADS = ("dense", "batch_normalization")


class Matched(NamedTuple):
    """The layers of a network in a model.

    Attributes:
        layers: the layers by the names that the network has for them.
        others: the names of the layers that the network does not have.
    """

    layers: dict[str, Layer]
    others: tuple[str, ...]


@functools.cache
def known_networks() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Returns the layer names in Keras networks, by network and kind.

    Those of a kind are in the order of Keras's `model.layers`, which is also that of
    its files; it was taken from tests/golden/keras.npz.
    """
    text = importlib.resources.files(__package__) / "layers.txt"
    networks: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in text.read_text(encoding="utf-8").splitlines():
        network, kind, *own = line.split()
        networks.setdefault(network, {})[kind] = tuple(own)
    return networks


def match(layers: Sequence[Layer], model: str | None) -> Matched:
    """Returns the layers of a network in a model, by name or, without names, by order.

    Args:
        layers: layers of the model; those of a kind must be in its order.
        model: the network, with or without options; None to find the Keras network that
            has these layers, if any. In other networks, layers keep their names.

    Raises:
        UserError: the layers are not those of the network, or cannot be told apart.
    """
    network = _recognize(layers) if model is None else model.split("(")[0]
    if network is None or network not in known_networks():
        return Matched(_match_own_names(layers, model), ())
    try:
        # With options, it may have fewer layers.
        return _match(layers, network, whole=model in (None, network))
    except UserError as error:
        other = _recognize(layers)
        hint = f"; its layers are those of {other}" if other else ""
        raise UserError(f"{error}{hint}") from None


def _recognize(layers: Sequence[Layer]) -> str | None:
    """Returns the Keras network whose layers are all there, except for its head."""
    others: dict[str, int] = {}
    for network in known_networks():
        try:
            others[network] = len(_match(layers, network, whole=True).others)
        except UserError:
            continue
    return min(others, key=lambda network: others[network]) if others else None


def _match_own_names(layers: Sequence[Layer], model: str | None) -> dict[str, Layer]:
    """Returns layers by their own names, for a user's own network."""
    for layer in layers:
        if layer.name is None or (model is None and names.is_automatic(layer.name)):
            known = " or ".join(known_networks())
            raise UserError(
                f"it is unclear which layer {_name(layer)} is: it has no name of its "
                f"own, and the file does not have all layers of {known}"
            )
    return _match_names(layers, None)


def _match(layers: Sequence[Layer], network: str, whole: bool) -> Matched:
    """Returns the layers of a Keras network.

    Raises:
        UserError: a layer is missing though the network must be whole except for its
            head, or a layer that it does not have comes before others that it has.
    """
    if any(layer.name is None for layer in layers):
        found = _match_order(layers, network)
    else:
        found = _match_names(layers, network)
    for kind, own in known_networks()[network].items():
        for name in own:
            if whole and name not in found and name not in HEADS:
                raise UserError(f"it has no layer {name}, a {kind} of {network}")
    body = {id(layer) for name, layer in found.items() if name not in HEADS}
    taken = {id(layer) for layer in found.values()}
    others: list[Layer] = []
    for layer in layers:
        if id(layer) not in taken:
            others.append(layer)
        elif id(layer) in body:
            for other in others:
                if (other.kind, other.place) == (layer.kind, layer.place):
                    raise UserError(
                        f"it has a layer {_name(other)} before {_name(layer)}, but "
                        f"{network} does not"
                    )
    return Matched(found, tuple(map(_name, others)))


def _match_names(layers: Sequence[Layer], network: str | None) -> dict[str, Layer]:
    """Returns the layers that a network has, by their names in the network."""
    own = () if network is None else sum(known_networks()[network].values(), ())
    given = names.to_current([_name(layer) for layer in layers], network)
    found: dict[str, Layer] = {}
    for layer, name in zip(layers, given, strict=True):
        if own and name not in own and not names.is_automatic(name):
            # As in the second network of a TensorFlow 1 graph.
            name = re.sub(r"_\d+$", "", name)
        if own and name not in own:
            continue
        if name in found:
            raise UserError(f"it has two layers {name}")
        found[name] = layer
    return found


def _match_order(layers: Sequence[Layer], network: str) -> dict[str, Layer]:
    """Returns layers by their order among those of their kind.

    Raises:
        UserError: there are too few, or too many for the network with any head.
    """
    # The network may be nested in a model that adds a head.
    place, _ = collections.Counter(layer.place for layer in layers).most_common(1)[0]
    inside = [layer for layer in layers if layer.place == place]
    found: dict[str, Layer] = {}
    for kind, own in known_networks()[network].items():
        there = [layer for layer in inside if layer.kind == kind]
        body = tuple(name for name in own if name not in HEADS)
        may_be_more = kind in _KINDS_OF_HEADS
        if len(there) == len(own):
            body = own
        elif len(there) < len(body) or (len(there) > len(body) and not may_be_more):
            raise UserError(
                f"it does not name its layers, and has {len(there)} of the "
                f"kind {kind}, but {network} has {len(own)}"
            )
        found |= dict(zip(body, there, strict=False))
    return found


def _name(layer: Layer) -> str:
    """Returns the name of a layer, or its place and kind if it has none."""
    return layer.name or "/".join((*layer.place, layer.kind))
