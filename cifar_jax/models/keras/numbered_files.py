"""The .weights.h5 and .keras files that Keras 3 and late versions of Keras 2 write.

They number the layers of a class, and the weights of a layer: layers/conv2d_1/vars/0.
Since 3.6, they also have the layer's own name.
"""

import collections
import re
from typing import Any

from cifar_jax.errors import UserError
from cifar_jax.models.keras.layer import Layer, value

# The groups with a model's layers. Keras 2.12 to 2.14 have the second one, where every
# layer with weights counts twice: conv2d is followed by conv2d_2.
_DOUBLED = "_layer_checkpoint_dependencies"
_CONTAINERS = {"layers", _DOUBLED}
# Names of a layer's weights, by its kind and their number.
_WEIGHTS = {
    ("conv2d", 1): ("kernel",),
    ("conv2d", 2): ("kernel", "bias"),
    ("dense", 1): ("kernel",),
    ("dense", 2): ("kernel", "bias"),
    ("depthwise_conv2d", 1): ("depthwise_kernel",),
    ("separable_conv2d", 2): ("depthwise_kernel", "pointwise_kernel"),
    ("batch_normalization", 3): ("beta", "moving_mean", "moving_variance"),
    ("batch_normalization", 4): ("gamma", "beta", "moving_mean", "moving_variance"),
}


def layers(file: Any, config: dict[str, Any]) -> list[Layer]:
    """Returns the layers, those of a kind in the order of the model.

    Args:
        file: the HDF5 file.
        config: the model's config.json, which has the layer names; empty if there is
            none.

    Raises:
        UserError: a layer is of an unknown kind, or a weight is damaged.
    """
    groups: dict[tuple[str, ...], Any] = {}

    def visit(name: str, item: Any) -> None:
        *places, last = _parts(name)
        if last == "vars" and _CONTAINERS.intersection(places) and len(item):
            groups[_path(places)] = item

    file.visititems(visit)
    names = _names(config)
    return [
        _layer(path, groups[path], names.get(path))
        for path in sorted(
            groups, key=lambda path: [_split_number(part) for part in path]
        )
        # The random number generators of dropout and distortions.
        if not path[-1].startswith("seed_generator")
    ]


def _layer(path: tuple[str, ...], values: Any, name: str | None) -> Layer:
    if "name" in values.attrs:
        name = str(values.attrs["name"])
    known_as = name or "/".join(path)
    kind, _ = _split_number(path[-1])
    weights = _WEIGHTS.get((kind, len(values)))
    if weights is None:
        known = ", ".join(sorted({kind for kind, _ in _WEIGHTS}))
        raise UserError(
            f"layer {known_as!r} is of the kind {kind}, with {len(values)} weights; "
            f"supported are {known}, as in keras.applications"
        )
    arrays = {
        weight: value(values, str(index), known_as, weight)
        for index, weight in enumerate(weights)
    }
    return Layer(name, arrays, kind, path[:-1])


def _names(
    config: dict[str, Any], place: tuple[str, ...] = ()
) -> dict[tuple[str, ...], str]:
    """Returns the names of layers by their paths, which consist of their classes."""
    names: dict[tuple[str, ...], str] = {}
    counts: collections.Counter[str] = collections.Counter()
    for layer in config.get("config", {}).get("layers", []):
        kind = _snake_case(layer["class_name"])
        path = (*place, _group(kind, counts[kind]))
        counts[kind] += 1
        names[path] = layer["config"]["name"]
        names |= _names(layer, path)
    return names


def _snake_case(name: str) -> str:
    """Turns Conv2D into conv2d, as keras.src.utils.naming.to_snake_case does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _parts(name: str) -> list[str]:
    """Returns the groups in a name, which has backslashes on Windows."""
    return re.split(r"[/\\]", name)


def _path(places: list[str]) -> tuple[str, ...]:
    """Returns the layers that groups belong to, with doubled numbers halved."""
    path = []
    doubled = False
    for place in places:
        if place in _CONTAINERS:
            doubled = place == _DOUBLED
        else:
            kind, number = _split_number(place)
            path.append(_group(kind, number // 2 if doubled else number))
    return tuple(path)


def _group(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _split_number(part: str) -> tuple[str, int]:
    """Splits conv2d_1 into conv2d and 1; the number is 0 if there is none."""
    found = re.fullmatch(r"(.*?)(?:_(\d+))?", part)
    assert found is not None
    return found[1], int(found[2] or 0)
