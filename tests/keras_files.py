"""Writes weights in the formats of Keras by h5py, as Keras itself would."""

import io
import pathlib
import zipfile
from typing import NamedTuple

import h5py
import numpy as np


class Layer(NamedTuple):
    """A layer: its name, the kind that Keras 3 files it under, and its weights."""

    name: str
    kind: str
    weights: dict[str, np.ndarray]


def write(path: pathlib.Path, layers: list[Layer]) -> pathlib.Path:
    """Writes a file in the format that its name ends with."""
    if path.name.endswith(".weights.h5"):
        with h5py.File(path, "w") as file:
            _write_numbered(file, layers)
    elif path.suffix == ".keras":
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _write_numbered(file, layers)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", content.getvalue())
    else:
        with h5py.File(path, "w") as file:
            _write_named(file, layers, "{layer}/{weight}:0")
    return path


def write_first_version(path: pathlib.Path, layers: list[Layer]) -> pathlib.Path:
    """Writes an .h5 file as Keras did in 2016, with its list of layers in two parts."""
    with h5py.File(path, "w") as file:
        _write_named(file, layers, "{layer}_{short}_1:0")
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
    return path


def _write_numbered(file: h5py.File, layers: list[Layer]) -> None:
    counts: dict[str, int] = {}
    for layer in [Layer("input_layer", "input_layer", {}), *layers]:
        number = counts.get(layer.kind, 0)
        counts[layer.kind] = number + 1
        group = f"{layer.kind}_{number}" if number else layer.kind
        values = file.create_group(f"layers/{group}/vars")
        values.attrs["name"] = layer.name
        for index, value in enumerate(layer.weights.values()):
            values[str(index)] = value


def _write_named(file: h5py.File, layers: list[Layer], pattern: str) -> None:
    short = {"kernel": "W", "bias": "b"}
    layers = [Layer("input_1", "input_layer", {}), *layers]
    file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
    for layer in layers:
        group = file.create_group(layer.name)
        names = []
        for weight, value in layer.weights.items():
            text = pattern.format(
                layer=layer.name, weight=weight, short=short.get(weight)
            )
            names.append(text.encode())
            group[text] = value
        group.attrs["weight_names"] = names
