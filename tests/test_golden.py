"""Compares operations, network and training with TensorFlow's, value by value.

The golden values come from golden/make_golden.py. Differences are relative to the
tensor's norm, and those of a single entry to its root mean square.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from golden import inputs
from golden.digest import relative_error

from cifar_jax import Config
from cifar_jax.data import augment
from cifar_jax.models.tutorial import TutorialCNN
from cifar_jax.ops import local_response_norm
from cifar_jax.optimization import chain, schedules
from cifar_jax.optimization.averages import EMA, averaged_params
from cifar_jax.optimization.losses import CrossEntropy
from cifar_jax.optimization.optimizers import SGD
from cifar_jax.optimization.weight_decay import WeightDecay

GOLDEN = np.load(Path(__file__).parent / "golden" / "tutorial.npz")
MODEL = TutorialCNN()
WEIGHT_DECAY = WeightDecay(inputs.WEIGHT_DECAY, True, MODEL.weight_decays)

# Tolerances, with differences measured on a CPU. An operation rounds each value a few
# times by at most 2^-24 = 6e-8 (measured: 3e-7).
OPERATION = 1e-6
# Subtracting the mean from low-contrast pixels cancels digits (measured: 1.6e-6).
DISTORTION = 5e-6
# Sums of 1600 and 2304 products are computed in a different order (measured: 4.4e-6;
# two implementations inside TensorFlow, Eigen and oneDNN, differ by 4.6e-6).
NETWORK = 1e-5


@pytest.fixture(autouse=True)
def full_precision():
    """Keeps accelerators from rounding the factors of float32 products."""
    with jax.default_matmul_precision("highest"):
        yield


def assert_golden(kind, values, tolerance, step=...):
    errors = {
        name: relative_error(value, GOLDEN[f"{kind}/{name}"][step])
        for name, value in values.items()
    }
    # The negation counts NaN as too far.
    too_far = {name: error for name, error in errors.items() if not error <= tolerance}
    assert errors
    assert not too_far


def by_name(params):
    """Returns parameters, or arrays structured like them, as {"conv1/kernel": ...}."""
    return {
        f"{layer}/{leaf}": params[layer][leaf]
        for layer in params
        for leaf in params[layer]
    }


def max_pool(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


@jax.jit
@jax.vmap
def prepared(image):
    return Config().preprocessing.prepare_eval(image, None)[0]


def cross_entropy(params, images, labels):
    logits = MODEL.apply({"params": params}, prepared(images))
    return CrossEntropy()(logits, labels, {}).mean()


def loss_terms(params, images, labels):
    loss = cross_entropy(params, images, labels)
    decay = WEIGHT_DECAY.penalties(params)
    total = sum(decay.values(), start=loss)
    return {"cross_entropy": loss, **decay, "total_loss": total}


def make_optimizer(schedule):
    return chain.create(
        SGD(),
        lambda name: schedule,
        max_steps=100,
        weight_decay=WEIGHT_DECAY,
        average=EMA(inputs.EMA_DECAY, ramp=True),
    )


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(jnp.asarray, inputs.params())


@pytest.fixture(scope="module")
def batches():
    return list(zip(inputs.images(), inputs.labels(), strict=True))


def test_evaluation_input(batches):
    images, _ = batches[0]
    assert_golden("operation", {"evaluation_input": prepared(images)}, OPERATION)


def test_distorted_input(batches):
    @jax.jit
    @jax.vmap
    def distort(image, delta, factor):
        image = jnp.fliplr(image[:24, :24]).astype(jnp.float32) + delta
        return augment.standardize(augment.adjust_contrast(image, factor))

    images, _ = batches[0]
    distorted = distort(images, inputs.BRIGHTNESS_DELTAS, inputs.CONTRAST_FACTORS)
    assert_golden("operation", {"distorted_input": distorted}, DISTORTION)


def test_max_pool_pads_at_the_bottom_and_right():
    x = inputs.activations()
    assert_golden("operation", {"max_pool": max_pool(x)}, tolerance=0)
    upside_down = max_pool(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    assert not np.array_equal(upside_down, max_pool(x))


def test_local_response_norm():
    normed = jax.jit(local_response_norm)(jnp.asarray(inputs.activations()))
    assert_golden("operation", {"local_response_norm": normed}, OPERATION)


def test_activations(params, batches):
    images, _ = batches[0]

    @jax.jit
    def activations(params):
        _, sown = MODEL.apply(
            {"params": params}, prepared(images), mutable="intermediates"
        )
        outputs = {}
        for layer in sown["intermediates"]["activations"]:
            outputs.update(layer)
        # Layers without parameters are not recorded, but their inputs are.
        pool1 = max_pool(outputs["conv1"])
        norm2 = local_response_norm(outputs["conv2"])
        return {
            **outputs,
            "pool1": pool1,
            "norm1": local_response_norm(pool1),
            "norm2": norm2,
            "pool2": max_pool(norm2),
        }

    outputs = activations(params)
    assert len(outputs) == 9
    assert_golden("activation", outputs, NETWORK)


def test_gradients_are_of_the_total_loss_or_the_optimizer_adds_the_decay(
    params, batches
):
    tx = make_optimizer(lambda step: 1.0)

    @jax.jit
    def both(params):
        def total_loss(params):
            return loss_terms(params, *batches[0])["total_loss"]

        gradients = jax.grad(cross_entropy)(params, *batches[0])
        updates, _ = tx.update(gradients, tx.init(params), params)
        return jax.grad(total_loss)(params), jax.tree.map(jnp.negative, updates)

    for gradients in both(params):
        assert_golden("gradient", by_name(gradients), NETWORK)


def test_training(params, batches):
    settings = dataclasses.replace(
        Config().schedule_settings,
        learning_rate=inputs.LEARNING_RATE,
        decay_factor=inputs.DECAY_FACTOR,
        decay_steps=inputs.DECAY_STEPS,
    )
    schedule = schedules.create("staircase", settings)
    tx = make_optimizer(schedule)

    @jax.jit
    def train_step(params, opt_state, images, labels):
        losses = loss_terms(params, images, labels)
        gradients = jax.grad(cross_entropy)(params, images, labels)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, losses

    opt_state = tx.init(params)
    for step, batch in enumerate(batches):
        params, opt_state, losses = train_step(params, opt_state, *batch)
        averages = averaged_params(opt_state)
        assert_golden("loss", losses, OPERATION, step)
        assert_golden("schedule", {"learning_rate": schedule(step)}, OPERATION, step)
        assert_golden("parameter", by_name(params), NETWORK, step)
        assert_golden("average", by_name(averages), NETWORK, step)


def test_bfloat16_computes_nearly_the_same(params, batches):
    images, _ = batches[0]
    apply = jax.jit(TutorialCNN(dtype=jnp.bfloat16).apply)
    logits = apply({"params": params}, prepared(images))
    assert logits.dtype == jnp.float32
    error = relative_error(logits, GOLDEN["activation/softmax_linear"])
    # Each rounding changes a value by up to 2^-9 = 0.002, and the five layers round
    # about ten times in sequence (measured: 0.02). An error below 1e-4 would mean that
    # bfloat16 is not used at all.
    assert 1e-4 < error < 0.05
