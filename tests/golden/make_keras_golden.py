"""Computes keras.npz: outputs of keras.applications for the fixed weights and images.

The tests compare cifar_jax with these values without Keras. To recompute them in a
throwaway environment:

    pip install tensorflow-cpu 'keras>=3.10'
    cd tests
    TF_ENABLE_ONEDNN_OPTS=0 KERAS_BACKEND=tensorflow python -m golden.make_keras_golden

oneDNN is disabled because it chooses its algorithms by processor.
"""

from pathlib import Path

import keras
import numpy as np
from golden import keras_weights
from numpy.typing import NDArray

CONVOLUTIONS_AND_DENSE = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)
# The last block of InceptionResNetV2 ends with a layer that Keras only numbers.
UNNAMED = {"block8_10_conv": "custom_scale_layer_39"}


def with_fixed_weights(network: str, size: int) -> keras.Model:
    keras.backend.clear_session()  # so that Keras numbers layers from the beginning
    build = getattr(keras.applications, keras_weights.KERAS_NAMES[network])
    model = build(
        weights=None,
        classes=keras_weights.NUM_CLASSES,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )
    for layer in model.layers:
        for weight in layer.weights:
            value = keras_weights.weight(network, layer.name, weight.name, weight.shape)
            weight.assign(value)
    return model


def activations(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns, for each convolution and dense layer, the value passed on from it."""
    names = {layer.name for layer in model.layers}
    outputs = {}
    for layer in model.layers:
        if isinstance(layer, CONVOLUTIONS_AND_DENSE):
            stem = layer.name.removesuffix("_conv")
            candidates = (
                UNNAMED.get(layer.name),
                f"{stem}_relu",
                f"{stem}_ac",
                # The addition at the end of a residual block.
                f"{stem.removesuffix('_3')}_out",
                f"{stem}_bn",
                # Layers that Keras numbers, and in the end the layer itself.
                layer.name.replace("conv2d", "activation"),
                layer.name.replace("conv2d", "batch_normalization"),
                layer.name,
            )
            name = next(name for name in candidates if name in names)
            separable = isinstance(layer, keras.layers.SeparableConv2D)
            own = f"{layer.name}_pointwise" if separable else layer.name
            outputs[own] = model.get_layer(name).output
    return outputs


def golden_values(network: str, size: int) -> dict[str, NDArray]:
    model = with_fixed_weights(network, size)
    outputs = activations(model)
    inner = keras.Model(model.input, [model.output, *outputs.values()])
    logits, *values = inner(keras_weights.images(size))
    digests = [keras_weights.short_digest(value) for value in values]
    weights = [
        (
            type(layer).__name__,
            layer.name,
            weight.name,
            "x".join(map(str, weight.shape)),
        )
        for layer in model.layers
        for weight in layer.weights
    ]
    case = f"{network}_{size}"
    return {
        f"{case}/weights": np.array(weights),
        f"{case}/logits": np.asarray(logits),
        f"{case}/layers": np.array(list(outputs)),
        f"{case}/digests": np.stack(digests),
    }


if __name__ == "__main__":
    golden = {}
    for case in keras_weights.CASES:
        golden |= golden_values(*case)
    np.savez_compressed(Path(__file__).with_name("keras.npz"), **golden)
