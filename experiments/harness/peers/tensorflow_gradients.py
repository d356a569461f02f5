"""The tutorial's losses, gradients and parameters in TensorFlow, from given weights.

Trains as cifar10_train.py does, but on images without random distortions, and from
weights in a file of NumPy arrays. To another file, it writes the gradients of every
batch before training, the losses of all steps, and the parameters after the last one.
"""

import argparse
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_tutorial import CROP_SIZE, max_pool

# Weight decay applies to these layers' kernels, with this factor.
DECAYED = ("local3", "local4")
WEIGHT_DECAY = 0.004
LEARNING_RATE = 0.1

Layers = dict[str, dict[str, Any]]


def prepared(images: Any, dtype: Any) -> Any:
    """Crops the center and standardizes each image, as cifar10_input.py does."""
    images = tf.image.resize_with_crop_or_pad(images, CROP_SIZE, CROP_SIZE)
    images = tf.cast(images, dtype)
    mean, variance = tf.nn.moments(images, [1, 2, 3], keepdims=True)
    least = tf.cast(1 / np.sqrt(CROP_SIZE * CROP_SIZE * 3), dtype)
    return (images - mean) / tf.maximum(tf.sqrt(variance), least)


def norm(x: Any) -> Any:
    """Applies local response normalization, which TensorFlow has only in float32."""
    if x.dtype == tf.float32:
        return tf.nn.local_response_normalization(x, 4, 1.0, 0.001 / 9, 0.75)
    padded = tf.pad(x * x, [[0, 0]] * 3 + [[4, 4]])
    total = tf.add_n([padded[..., i : i + x.shape[-1]] for i in range(9)])
    return x / (1 + 0.001 / 9 * total) ** 0.75


def inference(images: Any, params: Layers) -> Any:
    """Returns the logits of the tutorial's network."""

    def conv(name: str, x: Any) -> Any:
        x = tf.nn.conv2d(x, params[name]["kernel"], strides=1, padding="SAME")
        return tf.nn.relu(tf.nn.bias_add(x, params[name]["bias"]))

    def dense(name: str, x: Any) -> Any:
        return tf.matmul(x, params[name]["kernel"]) + params[name]["bias"]

    x = norm(max_pool(conv("conv1", images)))
    x = max_pool(norm(conv("conv2", x)))
    x = tf.nn.relu(dense("local3", tf.reshape(x, [-1, 6 * 6 * 64])))
    return dense("softmax_linear", tf.nn.relu(dense("local4", x)))


def total_loss(images: Any, labels: Any, params: Layers) -> Any:
    """Returns the mean cross-entropy plus the weight decay."""
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=inference(images, params)
    )
    decay = [WEIGHT_DECAY * tf.nn.l2_loss(params[name]["kernel"]) for name in DECAYED]
    return tf.reduce_mean(entropies) + tf.add_n(decay)


def main() -> None:
    """Parses the flags, trains and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", required=True, help="Images, labels and weights.")
    parser.add_argument("--to", required=True, help="File to write.")
    parser.add_argument("--float64", action="store_true")
    options = parser.parse_args()
    dtype = tf.float64 if options.float64 else tf.float32
    inputs = np.load(options.inputs)
    params: Layers = {}
    for name in inputs.files:
        if name.startswith("before/"):
            _, layer, leaf = name.split("/")
            value = tf.Variable(tf.cast(inputs[name], dtype))
            params.setdefault(layer, {})[leaf] = value

    @tf.function
    def loss_and_gradients(images: Any, labels: Any) -> tuple[Any, Layers]:
        with tf.GradientTape() as tape:
            loss = total_loss(prepared(images, dtype), labels, params)
        return loss, tape.gradient(loss, params)

    def by_name(kind: str, tree: Layers) -> dict[str, Any]:
        return {
            f"{kind}/{layer}/{leaf}": value.numpy()
            for layer, leaves in tree.items()
            for leaf, value in leaves.items()
        }

    pairs = zip(inputs["images"], inputs["labels"], strict=True)
    batches = [tuple(map(tf.constant, pair)) for pair in pairs]
    found: dict[str, Any] = {}
    for number, batch in enumerate(batches):
        found |= by_name(f"gradient {number}", loss_and_gradients(*batch)[1])
    losses = []
    for batch in batches:
        loss, gradients = loss_and_gradients(*batch)
        losses.append(float(loss))
        for layer, leaves in gradients.items():
            for leaf, gradient in leaves.items():
                params[layer][leaf].assign_sub(LEARNING_RATE * gradient)
    np.savez(options.to, loss=losses, **found, **by_name("after", params))


if __name__ == "__main__":
    main()
