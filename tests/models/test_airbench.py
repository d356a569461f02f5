"""Tests Airbench's network and recipes.

The golden values come from golden/make_airbench.py.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import airbench_inputs as inputs

from cifar_jax import Batch, Config, build_program, init_state, models, train_step
from cifar_jax.models.airbench import (
    Airbench,
    partly_identity,
    uniform_bias,
    unit_variance_uniform,
    whitening_kernel,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "airbench.npz")
PARAMETERS = {
    "sprint": 497_528,
    "airbench94": 1_971_640,
    "airbench94_sgd": 1_971_640,
    "airbench95": 4_604_728,
    "airbench96": 9_915_704,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_there_are_as_many_parameters_as_by_hand(name):
    model = models.create(name, 10)
    image = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


# Relative, and relative to the norm of a parameter's change. Measured: 5e-7 and 1e-5.
LOSSES, CHANGES = 2e-6, 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "scale"), [("airbench94_sgd", 1 / 9), ("airbench94", 1 / 256)]
)
def test_ten_steps_match_the_original(monkeypatch, recipe, scale):
    narrow = functools.partial(Airbench, widths=inputs.WIDTHS, logit_scale=scale)
    monkeypatch.setitem(models.MODELS, "narrow", narrow)
    name = "muon" if recipe == "airbench94" else "sgd"
    original = Config(recipe=recipe)
    config = Config(
        recipe=recipe,
        model="narrow",
        max_steps=inputs.STEPS,
        distortions="",
        learning_rate=inputs.FACTOR * original.learning_rate,
    )
    program = build_program(config, 10)
    images, labels = inputs.images(), inputs.labels()
    state = init_state(program, jax.random.key(0), images.reshape(-1, 32, 32, 3))
    params = jax.tree.map(jnp.asarray, inputs.params())
    assert jax.tree.structure(params) == jax.tree.structure(state.params)
    state = dataclasses.replace(state, params=params, opt_state=program.tx.init(params))
    take_step = jax.jit(functools.partial(train_step, program))
    losses = []
    for batch in zip(images, labels, strict=True):
        state, now = take_step(state, Batch.from_arrays(*batch))
        losses.append(original.batch_size * float(now["cross_entropy"]))
    np.testing.assert_allclose(losses, GOLDEN[f"{name}/losses"], rtol=LOSSES)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        layer, kind = (key.key for key in path)
        before, expected = params[layer][kind], GOLDEN[f"{name}/{layer}/{kind}"]
        error = np.linalg.norm(leaf - expected)
        assert error <= CHANGES * np.linalg.norm(expected - before), path


def test_whitened_patches_are_uncorrelated_and_of_variance_one():
    random = np.random.RandomState(0)
    images = random.standard_normal((200, 9, 9, 3)).cumsum(1).cumsum(2)
    images = jnp.asarray((images - images.mean()) / images.std(), jnp.float32)
    kernel = jax.jit(whitening_kernel)(images)
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    values = jax.lax.conv_general_dilated(
        images,
        kernel[..., :12],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    ).reshape(-1, 12)
    moments = np.asarray(values.T @ values) / len(values)
    # The smallest variances are comparable with the epsilon of 5e-4.
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-3)
    variances = np.diag(moments)
    assert (np.diff(variances) < 1e-3).all()
    components = np.linalg.norm(kernel.reshape(12, 24)[:, :12], axis=0) ** -2.0
    np.testing.assert_allclose(variances, 1 - 5e-4 / components, rtol=2e-3)


@pytest.mark.parametrize(("inner", "outer"), [(4, 6), (6, 4)])
def test_the_first_outputs_of_a_kernel_are_its_inputs(inner, outer):
    init = jax.jit(partly_identity, static_argnums=1)
    kernel = np.array(init(jax.random.key(0), (3, 3, inner, outer)))
    copies, rest = np.split(kernel, [min(inner, outer)], axis=3)
    center = copies[1, 1].copy()
    copies[1, 1] = 0
    np.testing.assert_array_equal(copies, 0)
    np.testing.assert_array_equal(center, np.eye(*center.shape))
    assert rest.size == 0 or 0.9 < np.abs(rest).max() * (9 * inner) ** 0.5 <= 1


def test_the_head_of_muons_network_has_the_deviation_1():
    init = jax.jit(unit_variance_uniform, static_argnums=1)
    kernel = np.array(init(jax.random.key(0), (256, 10)))
    assert kernel.std(ddof=1) == pytest.approx(1)
    # Of a uniform distribution, the highest value is sqrt(3) deviations from the mean.
    assert np.abs(kernel).max() == pytest.approx(3**0.5, rel=0.02)
    assert np.abs(kernel.mean()) < 0.1


def test_the_whitening_bias_of_muons_network_is_uniform():
    bias = np.array(uniform_bias(jax.random.key(0), (10_000,)))
    # A window contains 2 * 2 * 3 values.
    assert np.abs(bias).max() == pytest.approx(12**-0.5, rel=1e-3)
    assert bias.std() == pytest.approx(12**-0.5 / 3**0.5, rel=0.02)


@pytest.mark.slow
def test_initial_filters_whiten_the_training_images(monkeypatch):
    narrow = functools.partial(Airbench, widths=inputs.WIDTHS)
    monkeypatch.setitem(models.MODELS, "narrow", narrow)
    config = Config(recipe="airbench94_sgd", model="narrow")
    program = build_program(config, 10)
    images = inputs.images()[0].cumsum(1, dtype=np.uint32).cumsum(2, dtype=np.uint32)
    images = (images >> 8).astype(np.uint8)
    state = init_state(program, jax.random.key(0), images)
    view = jax.vmap(program.preprocessing.prepare_eval, (0, None))
    inputs_of_network = view(images, state.statistics)[:, 0]
    filters, expected = (
        np.asarray(kernel).reshape(12, 24)
        for kernel in (
            state.params["whiten"]["kernel"],
            whitening_kernel(inputs_of_network),
        )
    )
    # Components of equal variances may be mixed, which leaves the sum of their squares.
    np.testing.assert_allclose(filters @ filters.T, expected @ expected.T, rtol=1e-2)
