"""Makes files of a version of Keras, and compares what is read with what was saved.

In a throwaway environment with the version of Keras, such as tensorflow-cpu==2.13.1,
tf_keras, or keras==3.3.3 with jax and h5py:

    cd tests
    python -m golden.make_keras_files make FOLDER

The module that has Keras may be named after it: keras, the default, or tf_keras. Then,
in an environment for development:

    python -m golden.make_keras_files compare FOLDER
"""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# The networks with layers of every kind, and with layers that Keras numbers.
NETWORKS = {
    "resnet50": "ResNet50",
    "mobilenet": "MobileNet",
    "xception": "Xception",
    "inception_v3": "InceptionV3",
}
FORMATS = (".weights.h5", ".h5", ".keras")
SIZE = 75


def make(folder: Path, module: str = "keras") -> None:
    """Saves networks alone, with layers after them, and in a model."""
    keras = importlib.import_module(module)
    layers = keras.layers
    for network, name in NETWORKS.items():
        build = getattr(keras.applications, name)
        shape = (SIZE, SIZE, 3)
        save(build(weights=None, classes=10, input_shape=shape), folder / network)
        options = {"weights": None, "include_top": False, "pooling": "avg"}
        base = build(input_shape=shape, **options)
        head = layers.Dense(3, name="head")(layers.Dense(16)(base.output))
        save(keras.Model(base.input, head), folder / f"{network}-continued")
        base = build(input_shape=shape, **options)
        images = keras.Input(shape)
        head = layers.Dense(3)(layers.BatchNormalization()(base(images)))
        save(keras.Model(images, head), folder / f"{network}-inside")


def save(model: Any, path: Path) -> None:
    """Saves a model in each format, and its weights by layer and number."""
    random = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    for layer in all_layers(model):
        values = [random.random(w.shape, np.float32) for w in layer.get_weights()]
        layer.set_weights(values)
        names = [w.name.split("/")[-1].split(":")[0] for w in layer.weights]
        weights |= {
            f"{layer.name}/{name}": value
            for name, value in zip(names, values, strict=True)
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(f"{path}.npz", **weights)
    for ending in FORMATS:
        write = model.save_weights if ending == ".weights.h5" else model.save
        write(f"{path}{ending}")


def all_layers(model: Any) -> list[Any]:
    """Returns the layers of a model and of those inside of it."""
    layers = []
    for layer in model.layers:
        layers += all_layers(layer) if hasattr(layer, "layers") else [layer]
    return layers


class Weight(np.ndarray):
    """An array with a name, as a weight of Keras."""


def compare(folder: Path) -> None:
    """Compares what is read of the files with what was saved."""
    from cifar_jax.models.keras import weights

    for path in sorted(folder.glob("*.npz")):
        network = path.stem.split("-")[0]
        layers: dict[str, SimpleNamespace] = {}
        for name, value in np.load(path).items():
            layer, weight = name.split("/")
            array = value.view(Weight)
            array.name = weight
            own = layers.setdefault(layer, SimpleNamespace(name=layer, weights=[]))
            own.weights.append(array)
        saved = SimpleNamespace(layers=list(layers.values()))
        expected = weights.convert(saved, network)
        for ending in FORMATS:
            for model in (network, None):
                found = weights.convert(path.with_name(path.stem + ending), model)
                np.testing.assert_equal(found.variables, expected.variables)
                assert len(found.left_out) == len(expected.left_out)
            print(f"{path.stem}{ending}: the same; left out {found.left_out}")


if __name__ == "__main__":
    what, folder_name, *options = sys.argv[1:]
    {"make": make, "compare": compare}[what](Path(folder_name), *options)
