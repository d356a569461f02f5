"""Tests the train step with BatchNorm; test_golden.py tests the tutorial's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import latest

from cifar_jax import (
    Batch,
    Config,
    build_program,
    eval_step,
    evaluate,
    fit,
    init_state,
    inspect,
    train_step,
)
from cifar_jax.training.inspection import all_finite
from cifar_jax.training.trained import of_state

MOMENTUM = 0.9  # SmallBatchNorm's weight of the old value.


CONFIG = Config(
    model="batch_norm",
    weight_decay=5e-4,
    optimizer="sgd(momentum=0.9)",
    train_dir=None,
)


@pytest.fixture(scope="module")
def program():
    return build_program(CONFIG, num_classes=3)


take_step = jax.jit(train_step, static_argnums=0)
look_inside = jax.jit(inspect, static_argnums=0)


@pytest.fixture(scope="module")
def state(program, dataset):
    return init_state(program, jax.random.key(0), dataset.train.images)


@pytest.fixture(scope="module")
def batch(dataset):
    return Batch.of(dataset.train.images[:16], dataset.train.labels[:16])


def convolved(program, state, inside):
    """Returns the inputs of BatchNorm in a step."""
    model = program.model
    _, kept = model.apply(
        state.variables,
        inside.images,
        capture_intermediates=lambda module, _: module.name == "conv",
        mutable=["intermediates"],
    )
    return np.asarray(kept["intermediates"]["conv"]["__call__"][0])


def test_running_statistics_follow_the_batch(program, state, batch):
    x = convolved(program, state, look_inside(program, state, batch))
    after, _ = take_step(program, state, batch)
    norm = after.batch_stats["norm"]
    expected = {
        "mean": (1 - MOMENTUM) * x.mean(axis=(0, 1, 2)),
        "var": MOMENTUM + (1 - MOMENTUM) * x.var(axis=(0, 1, 2)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(norm[name], values, rtol=1e-4, atol=1e-5)


def test_training_normalizes_by_the_batch_and_evaluation_does_not(
    program, state, batch
):
    inside = look_inside(program, state, batch)
    x = convolved(program, state, inside)
    standardized = (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(
        inside.activations["conv"], np.maximum(standardized, 0), atol=1e-4
    )
    logits = program.model.apply(state.variables, inside.images)
    alone = program.model.apply(state.variables, inside.images[:1])
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)


def test_gradients_flow_through_the_batch_statistics(program, state, batch):
    inside = look_inside(program, state, batch)
    after, losses = take_step(program, state, batch)
    # The first step of SGD with momentum equals one without.
    jax.tree.map(
        lambda new, old, grad: np.testing.assert_allclose(
            new, old - 0.1 * grad, rtol=1e-4, atol=1e-6
        ),
        after.params,
        state.params,
        inside.grads,
    )
    assert set(losses) == {"cross_entropy", "weight_loss", "total_loss"}
    # Scaling the kernel before BatchNorm changes nothing, so the gradient is orthogonal
    # to the kernel except for the weight decay and epsilon.
    kernel, grad = state.params["conv"]["kernel"], inside.grads["conv"]["kernel"]
    decay = 5e-4 * jnp.vdot(kernel, kernel)
    assert float(jnp.vdot(kernel, grad) - decay) == pytest.approx(0, abs=1e-4)


def test_statistics_are_averaged_like_parameters(program, state, batch):
    after, _ = take_step(program, state, batch)
    averaged = after.averaged_variables
    # The first decay is 2/11.
    expected = jax.tree.map(
        lambda old, new: 2 / 11 * old + 9 / 11 * new, state.variables, after.variables
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        averaged,
        expected,
    )


def test_evaluation_uses_the_averaged_statistics(program, state, batch, dataset):
    after, _ = take_step(program, state, batch)
    images = dataset.test.images
    network = of_state(program, after, dataset)
    statistics = network.variables["batch_stats"]
    mixed = after.variables | {"batch_stats": statistics}
    whole, mixed = (
        eval_step(
            variables,
            images,
            None,
            model=program.model,
            preprocessing=program.preprocessing,
        )
        for variables in (network.variables, mixed)
    )
    assert not np.allclose(whole, mixed)
    jax.tree.map(
        np.testing.assert_array_equal,
        network.variables,
        after.averaged_variables,
    )


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(dataset, tmp_path):
    def run(max_steps, train_dir):
        settings = dataclasses.replace(
            CONFIG, max_steps=max_steps, batch_size=16, train_dir=train_dir
        )
        return fit(settings, dataset, lambda _: None)

    whole = run(40, None)
    for steps in (7, 40):
        resumed = run(steps, str(tmp_path / "run"))
    jax.tree.map(
        np.testing.assert_array_equal,
        dataclasses.replace(resumed.state, key=0),
        dataclasses.replace(whole.state, key=0),
    )
    saved = latest(tmp_path / "run" / "checkpoints", whole.state)
    jax.tree.map(
        np.testing.assert_array_equal, saved.batch_stats, whole.state.batch_stats
    )
    assert all_finite(saved)
    assert evaluate(whole.trained, dataset.test) > 0.9


@pytest.mark.slow
def test_ten_views_are_averaged_as_probabilities(dataset):
    settings = dataclasses.replace(CONFIG, views="ten_crops")
    program = build_program(settings, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    images = jnp.asarray(dataset.test.images[:2])
    logits = eval_step(
        state.variables,
        images,
        None,
        model=program.model,
        preprocessing=program.preprocessing,
    )
    views = jnp.stack(
        [program.preprocessing.evaluation(image, None) for image in images]
    )
    each = jax.nn.softmax(
        jnp.stack([program.model.apply(state.variables, view) for view in views])
    )
    np.testing.assert_allclose(jnp.exp(logits), each.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), 1, rtol=1e-5)
