"""TensorFlow's CIFAR-10 tutorial in TensorFlow 2's compat.v1 API, for benchmarking.

The graph of cifar10.py and cifar10_input.py, trained as in cifar10_train.py: with a
MonitoredTrainingSession, all the tutorial's summaries every 100 steps, an initial
checkpoint, and the loss fetched at every step.

Optimizations: oneDNN kernels (TensorFlow's default on x86), Grappler, and, in place of
the original's queues, a tf.data pipeline with autotuned parallel map and prefetching.
--bf16 lets Grappler convert what it considers safe to bfloat16.

With --test_records, the network is finally evaluated as in cifar10_eval.py, with
averaged and with raw parameters, but on each image exactly once.
"""

import argparse
import tempfile
from typing import Any

import tensorflow.compat.v1 as tf

RECORD_BYTES = 1 + 32 * 32 * 3
CROP_SIZE = 24
EVALUATION_BATCH = 500


def decoded(record: Any) -> tuple[Any, Any]:
    """Converts a record of the binary format to an image and its label."""
    values = tf.io.decode_raw(record, tf.uint8)
    image = tf.transpose(tf.reshape(values[1:], [3, 32, 32]), [1, 2, 0])
    return tf.cast(image, tf.float32), tf.cast(values[0], tf.int32)


def distorted(record: Any) -> tuple[Any, Any]:
    """Converts a record to a training input and its label."""
    image, label = decoded(record)
    image = tf.image.random_crop(image, [CROP_SIZE, CROP_SIZE, 3])
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_brightness(image, max_delta=63)
    image = tf.image.random_contrast(image, lower=0.2, upper=1.8)
    image = tf.image.per_image_standardization(image)
    return image, label


def central(record: Any) -> tuple[Any, Any]:
    """Converts a record to an input for evaluation and its label."""
    image, label = decoded(record)
    image = tf.image.resize_with_crop_or_pad(image, CROP_SIZE, CROP_SIZE)
    return tf.image.per_image_standardization(image), label


def batches(path: str, batch_size: int) -> tuple[Any, Any]:
    """Returns the next batch of augmented images, shuffled 20,000 at a time."""
    data = tf.data.FixedLengthRecordDataset(path, RECORD_BYTES)
    data = data.repeat().shuffle(20_000 + 3 * batch_size)
    data = data.map(distorted, tf.data.AUTOTUNE, deterministic=False)
    data = data.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    images, labels = tf.data.make_one_shot_iterator(data).get_next()
    tf.summary.image("images", images)
    return images, labels


def variable(name: str, shape: list[int], stddev: float, decay: float = 0.0) -> Any:
    """Creates truncated normal weights; with decay, collects their L2 loss."""
    init = tf.truncated_normal_initializer(stddev=stddev)
    value = tf.get_variable(name, shape, initializer=init)
    if decay:
        loss = tf.multiply(tf.nn.l2_loss(value), decay, name="weight_loss")
        tf.add_to_collection("losses", loss)
    return value


def biases(size: int, start: float) -> Any:
    """Creates the biases of a layer."""
    return tf.get_variable("biases", [size], initializer=tf.constant_initializer(start))


def activation_summary(name: str, x: Any) -> Any:
    """Adds a histogram and the sparsity of a layer's activations."""
    tf.summary.histogram(f"{name}/activations", x)
    tf.summary.scalar(f"{name}/sparsity", tf.nn.zero_fraction(x))
    return x


def conv(name: str, x: Any, bias: float) -> Any:
    """Applies a 5x5 convolution with 64 output channels and ReLU."""
    with tf.variable_scope(name):
        kernel = variable("weights", [5, 5, x.shape[3], 64], 0.05)
        x = tf.nn.conv2d(x, kernel, strides=1, padding="SAME")
        x = tf.nn.relu(tf.nn.bias_add(x, biases(64, bias)))
    return activation_summary(name, x)


def local(name: str, x: Any, size: int) -> Any:
    """Applies a hidden dense layer and ReLU."""
    with tf.variable_scope(name):
        weights = variable("weights", [x.shape[1], size], 0.04, decay=0.004)
        x = tf.nn.relu(tf.matmul(x, weights) + biases(size, 0.1))
    return activation_summary(name, x)


def max_pool(x: Any) -> Any:
    """Applies 3x3 max pooling with stride 2."""
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="SAME")


def norm(x: Any) -> Any:
    """Applies local response normalization."""
    return tf.nn.local_response_normalization(x, 4, 1.0, 0.001 / 9, 0.75)


def inference(images: Any) -> Any:
    """Returns the logits of the tutorial's network."""
    x = norm(max_pool(conv("conv1", images, 0.0)))
    x = max_pool(norm(conv("conv2", x, 0.1)))
    x = local("local3", tf.reshape(x, [-1, 6 * 6 * 64]), 384)
    x = local("local4", x, 192)
    with tf.variable_scope("softmax_linear"):
        x = tf.matmul(x, variable("weights", [192, 10], 1 / 192)) + biases(10, 0.0)
    return activation_summary("softmax_linear", x)


def total_loss(logits: Any, labels: Any) -> Any:
    """Returns the mean cross-entropy plus the weight decay."""
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )
    tf.add_to_collection("losses", tf.reduce_mean(cross_entropy, name="cross_entropy"))
    return tf.add_n(tf.get_collection("losses"), name="total_loss")


def train_op(loss: Any, batch_size: int) -> Any:
    """Returns a step of SGD and of all averages, with the tutorial's summaries."""
    step = tf.train.get_or_create_global_step()
    decay_steps = int(50_000 / batch_size * 350)
    rate = tf.train.exponential_decay(0.1, step, decay_steps, 0.1, staircase=True)
    tf.summary.scalar("learning_rate", rate)
    terms = [*tf.get_collection("losses"), loss]
    smoothed = tf.train.ExponentialMovingAverage(0.9, name="avg")
    loss_averages = smoothed.apply(terms)
    for term in terms:
        tf.summary.scalar(f"{term.op.name} (raw)", term)
        tf.summary.scalar(term.op.name, smoothed.average(term))
    with tf.control_dependencies([loss_averages]):
        optimizer = tf.train.GradientDescentOptimizer(rate)
        grads = optimizer.compute_gradients(loss)
    apply_gradients = optimizer.apply_gradients(grads, global_step=step)
    for grad, value in grads:
        tf.summary.histogram(value.op.name, value)
        tf.summary.histogram(f"{value.op.name}/gradients", grad)
    averages = tf.train.ExponentialMovingAverage(0.9999, step)
    with tf.control_dependencies([apply_gradients]):
        return averages.apply(tf.trainable_variables())


def precision(records: str, train_dir: str, raw: bool) -> float:
    """Returns the precision @ 1 of the newest checkpoint on the records."""
    data = tf.data.FixedLengthRecordDataset(records, RECORD_BYTES)
    data = data.map(central, tf.data.AUTOTUNE).batch(EVALUATION_BATCH)
    images, labels = tf.data.make_one_shot_iterator(data).get_next()
    right = tf.nn.in_top_k(inference(images), labels, 1)
    averages = tf.train.ExponentialMovingAverage(0.9999)
    saver = tf.train.Saver(None if raw else averages.variables_to_restore())
    answers: list[bool] = []
    with tf.Session() as session:
        saver.restore(session, tf.train.latest_checkpoint(train_dir))
        try:
            while True:
                answers += session.run(right).tolist()
        except tf.errors.OutOfRangeError:
            return sum(answers) / len(answers)


class Logger(tf.train.SessionRunHook):
    """Fetches the loss at every step and prints the tutorial's log line."""

    def __init__(self, loss: Any, frequency: int):
        self._loss, self._frequency, self._step = loss, frequency, -1

    def before_run(self, run_context: Any) -> Any:
        """Requests the loss."""
        del run_context
        self._step += 1
        return tf.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Prints the loss."""
        del run_context
        if self._step % self._frequency == 0:
            print(f"step {self._step}, loss = {run_values.results:.4f}", flush=True)


def train(options: argparse.Namespace, config: Any, train_dir: str) -> None:
    """Trains and leaves a checkpoint in the folder."""
    with tf.Graph().as_default():
        tf.train.get_or_create_global_step()
        with tf.device("/cpu:0"):
            images, labels = batches(options.records, options.batch_size)
        loss = total_loss(inference(images), labels)
        op = train_op(loss, options.batch_size)
        hooks = [
            tf.train.StopAtStepHook(last_step=options.max_steps),
            tf.train.NanTensorHook(loss),
            Logger(loss, options.log_frequency),
        ]
        with tf.train.MonitoredTrainingSession(
            checkpoint_dir=train_dir, hooks=hooks, config=config
        ) as session:
            while not session.should_stop():
                session.run(op)


def main() -> None:
    """Parses the flags and trains."""
    # Not absl flags: the peers share their flags, and not every peer has absl.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", required=True, help="File of binary records.")
    parser.add_argument("--test_records", help="File of the test images' records.")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--max_steps", type=int, required=True)
    parser.add_argument("--log_frequency", type=int, default=10)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    config = tf.ConfigProto()
    if options.bf16:
        rewrites = config.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    print(f"using TensorFlow {tf.version.VERSION}", flush=True)
    with tempfile.TemporaryDirectory() as train_dir:
        train(options, config, train_dir)
        if options.test_records:
            for name, raw in (("averaged", False), ("raw", True)):
                with tf.Graph().as_default():
                    found = precision(options.test_records, train_dir, raw)
                print(f"precision @ 1, {name} parameters = {found:.4f}", flush=True)


if __name__ == "__main__":
    main()
