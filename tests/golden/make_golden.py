"""Computes tutorial.npz: the results of TensorFlow's operations on the fixed inputs.

The tests compare cifar_jax with these values without TensorFlow. To recompute them in
a throwaway environment:

    pip install tensorflow-cpu
    cd tests
    TF_ENABLE_ONEDNN_OPTS=0 python -m golden.make_golden

oneDNN is disabled because it chooses its algorithms by processor and changes the
values by up to 5e-6 of the norm.

The graph is built as in the tutorial (cifar10_input.py and cifar10.py), so whatever is
not obvious (where SAME pads, when the averages read the step) is decided by TensorFlow
and not by this project.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from golden import inputs
from golden.digest import digest
from numpy.typing import NDArray

v1 = tf.compat.v1

Values = dict[str, NDArray[np.float32]]


def lrn(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)


def max_pool(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="SAME")


def evaluation_input(image: NDArray[np.uint8]) -> tf.Tensor:
    image = tf.image.resize_with_crop_or_pad(tf.cast(image, tf.float32), 24, 24)
    return tf.image.per_image_standardization(image)


def distorted_input(
    image: NDArray[np.uint8], delta: np.float32, factor: np.float32
) -> tf.Tensor:
    """Applies `distorted_inputs` with given draws: the upper left crop, mirrored."""
    image = tf.image.flip_left_right(tf.cast(image[:24, :24], tf.float32))
    image = tf.image.adjust_brightness(image, delta)
    image = tf.image.adjust_contrast(image, factor)
    return tf.image.per_image_standardization(image)


def inference(images: tf.Tensor, variables: dict[str, dict]) -> dict[str, tf.Tensor]:
    """Returns the output of every layer under the tutorial's names."""

    def conv(x, layer):
        x = tf.nn.conv2d(x, variables[layer]["kernel"], strides=1, padding="SAME")
        return tf.nn.relu(tf.nn.bias_add(x, variables[layer]["bias"]))

    def dense(x, layer):
        x = tf.matmul(x, variables[layer]["kernel"])
        return tf.add(x, variables[layer]["bias"])

    out = {}
    out["conv1"] = conv(images, "conv1")
    out["pool1"] = max_pool(out["conv1"])
    out["norm1"] = lrn(out["pool1"])
    out["conv2"] = conv(out["norm1"], "conv2")
    out["norm2"] = lrn(out["conv2"])
    out["pool2"] = max_pool(out["norm2"])
    flat = tf.reshape(out["pool2"], [images.shape[0], -1])
    out["local3"] = tf.nn.relu(dense(flat, "local3"))
    out["local4"] = tf.nn.relu(dense(out["local3"], "local4"))
    out["softmax_linear"] = dense(out["local4"], "softmax_linear")
    return out


def losses(
    logits: tf.Tensor, labels: tf.Tensor, variables: dict[str, dict]
) -> dict[str, tf.Tensor]:
    """Returns each term of the loss and their total."""
    terms = {
        f"{layer}/weight_loss": tf.multiply(
            tf.nn.l2_loss(variables[layer]["kernel"]), inputs.WEIGHT_DECAY
        )
        for layer in ("local3", "local4")
    }
    terms["cross_entropy"] = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
    return {**terms, "total_loss": tf.add_n(list(terms.values()))}


def fixed_operations() -> Values:
    """Returns digests of single operations, evaluated eagerly."""
    images = inputs.images()[0]
    draws = zip(images, inputs.BRIGHTNESS_DELTAS, inputs.CONTRAST_FACTORS, strict=True)
    x = inputs.activations()
    return {
        "operation/evaluation_input": digest(
            [evaluation_input(image) for image in images]
        ),
        "operation/distorted_input": digest([distorted_input(*draw) for draw in draws]),
        "operation/max_pool": digest(max_pool(x)),
        "operation/local_response_norm": digest(lrn(x)),
    }


def training_run() -> Values:
    """Returns digests of `STEPS` training steps, built like `train` in cifar10.py."""
    with tf.Graph().as_default(), v1.Session() as session:
        variables = tf.nest.map_structure(tf.Variable, inputs.params())
        names = [f"{layer}/{leaf}" for layer in variables for leaf in variables[layer]]
        flat = [variables[layer][leaf] for layer, leaf in (n.split("/") for n in names)]

        images = v1.placeholder(tf.uint8, [inputs.BATCH_SIZE, 32, 32, 3])
        labels = v1.placeholder(tf.int32, [inputs.BATCH_SIZE])
        prepared = tf.stack([evaluation_input(image) for image in tf.unstack(images)])
        layers = inference(prepared, variables)
        terms = losses(layers["softmax_linear"], labels, variables)

        step = v1.train.create_global_step()
        learning_rate = v1.train.exponential_decay(
            inputs.LEARNING_RATE,
            step,
            inputs.DECAY_STEPS,
            inputs.DECAY_FACTOR,
            staircase=True,
        )
        optimizer = v1.train.GradientDescentOptimizer(learning_rate)
        gradients = optimizer.compute_gradients(terms["total_loss"], flat)
        apply_gradients = optimizer.apply_gradients(gradients, global_step=step)
        averages = tf.train.ExponentialMovingAverage(inputs.EMA_DECAY, step)
        with tf.control_dependencies([apply_gradients]):
            train = averages.apply(flat)

        before = {
            "activation": layers,
            "loss": terms,
            "gradient": dict(zip(names, [g for g, _ in gradients], strict=True)),
            "schedule": {"learning_rate": learning_rate},
        }
        after = {
            "parameter": dict(zip(names, flat, strict=True)),
            "average": {
                name: averages.average(v) for name, v in zip(names, flat, strict=True)
            },
        }
        session.run(v1.global_variables_initializer())
        history = []
        for batch in zip(inputs.images(), inputs.labels(), strict=True):
            feed = dict(zip((images, labels), batch, strict=True))
            values = session.run(before, feed)
            session.run(train, feed)
            history.append({**values, **session.run(after)})

    # Later activations and gradients would add nothing to what the parameters show.
    first = {
        f"{kind}/{name}": digest(tensor)
        for kind in ("activation", "gradient")
        for name, tensor in history[0][kind].items()
    }
    every = {
        f"{kind}/{name}": np.stack([digest(values[kind][name]) for values in history])
        for kind in ("loss", "schedule", "parameter", "average")
        for name in history[0][kind]
    }
    return first | every


if __name__ == "__main__":
    golden = fixed_operations() | training_run()
    np.savez_compressed(Path(__file__).with_name("tutorial.npz"), **golden)
