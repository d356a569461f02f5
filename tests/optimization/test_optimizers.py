"""Tests each optimizer against its formula and on a network with BatchNorm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_jax import Batch, Config, build_program, init_state, inspect, train_step
from cifar_jax.optimization import chain
from cifar_jax.optimization.optimizers import SGD, AdamW, Lion, Lookahead, Muon

PARAMS = {"dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)}}
GRADIENTS = jax.tree.map(jnp.ones_like, PARAMS)


def create(optimizer, rate=lambda step: 0.1, weight_decay=0.0):
    return chain.create(
        optimizer,
        lambda name: rate,
        max_steps=len(SGD_GRADIENTS),
        weight_decay=weight_decay,
        weight_decays=None,
        ema_decay=0.9,
    )


def first_update(optimizer, gradients=GRADIENTS, params=PARAMS, **options):
    tx = create(optimizer, **options)
    return tx.update(gradients, tx.init(params), params)[0]


def test_plain_sgd_follows_the_schedule():
    tx = create(SGD(), rate=lambda step: 1.0 + step)
    state = tx.init(PARAMS)
    for rate in (1, 2, 3):
        updates, state = tx.update(GRADIENTS, state, PARAMS)
        np.testing.assert_allclose(updates["dense"]["kernel"], -rate, rtol=1e-6)


# A weight of 3 after each step of torch.optim.SGD(lr=0.1, momentum=0.9,
# weight_decay=0.01, nesterov=...) with these gradients, from PyTorch 2.13 by
# golden/make_optimizers.py.
SGD_GRADIENTS = (1.0, -0.5, 2.0, 0.25)
PYTORCH = {
    False: (2.897, 2.851403, 2.6075144, 2.3604071),
    True: (2.8043, 2.8105419, 2.3883433, 2.1388564),
}


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_matches_pytorch(nesterov):
    weights = weights_after(SGD(0.9, nesterov), SGD_GRADIENTS, 0.1, 0.01)
    np.testing.assert_allclose(weights, PYTORCH[nesterov], rtol=1e-6)


def weights_after(optimizer, gradients, rate, weight_decay):
    """Returns a weight that starts at 3 after each of these gradients."""
    tx = create(optimizer, lambda step: rate, weight_decay)
    params = {"dense": {"kernel": jnp.float32(3.0)}}
    state, weights = tx.init(params), []
    for gradient in gradients:
        updates, state = tx.update(
            {"dense": {"kernel": jnp.float32(gradient)}}, state, params
        )
        params = optax.apply_updates(params, updates)
        weights.append(float(params["dense"]["kernel"]))
    return weights


# The same for torch.optim.AdamW(lr=0.1, betas=(0.9, 0.999), eps=1e-8,
# weight_decay=0.01).
PYTORCH_ADAMW = (2.897, 2.8674693, 2.7987907, 2.7360942)


def test_adamw_matches_pytorch():
    weights = weights_after(AdamW(), SGD_GRADIENTS, 0.1, 0.01)
    np.testing.assert_allclose(weights, PYTORCH_ADAMW, rtol=1e-5)


def test_lion_matches_its_paper():
    # Chen et al. 2023, algorithm 2: the sign of the interpolation plus decay times the
    # weight.
    weight, momentum, expected = 3.0, 0.0, []
    for gradient in SGD_GRADIENTS:
        direction = np.sign(0.9 * momentum + 0.1 * gradient)
        weight -= 0.1 * (direction + 0.01 * weight)
        momentum = 0.99 * momentum + 0.01 * gradient
        expected.append(weight)
    weights = weights_after(Lion(), SGD_GRADIENTS, 0.1, 0.01)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(12, 6), (6, 12), (3, 3, 8, 16)])
def test_muon_orthogonalizes_kernels_as_matrices(shape):
    kernel = jax.random.normal(jax.random.key(0), shape)
    params = {"layer": {"kernel": kernel, "bias": jnp.ones(shape[-1])}}
    gradients = jax.tree.map(lambda x: x + 1, params)
    updates = first_update(Muon(steps=10), gradients, params, rate=lambda step: 1.0)
    matrix = np.asarray(updates["layer"]["kernel"]).reshape(-1, shape[-1])
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    # Newton-Schulz iterations with Jordan's coefficients end near 1.
    scale = max(1, matrix.shape[1] / matrix.shape[0]) ** 0.5
    assert 0.6 < singular_values.min() / scale < singular_values.max() / scale < 1.3
    # Adam's first update is the sign of the gradient.
    np.testing.assert_allclose(updates["layer"]["bias"], -1, rtol=1e-4)


def test_decoupled_decay_is_not_in_the_loss():
    assert [o.decay_in_loss for o in (SGD(), Lookahead(SGD()))] == [True, True]
    decoupled = (AdamW(), Lion(), Muon(), Lookahead(AdamW()))
    assert not any(o.decay_in_loss for o in decoupled)


@pytest.mark.parametrize("optimizer", [AdamW(), Lion(), Muon()])
def test_decoupled_decay_is_a_share_of_the_weight(optimizer):
    with_decay = first_update(optimizer, weight_decay=0.5)["dense"]
    without = first_update(optimizer)["dense"]
    np.testing.assert_allclose(
        with_decay["kernel"], without["kernel"] - 0.1 * 0.5 * 3.0, rtol=1e-5
    )
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])


def test_lookahead_matches_its_paper():
    weights = weights_after(Lookahead(SGD(), 2, 0.5), [1, 1, 1, 1, 1], 0.1, 0.0)
    # Zhang et al. 2019, algorithm 1: every two steps, halfway back to the slow weight.
    expected = [2.9, 3 + 0.5 * (2.8 - 3), 2.8, 2.9 + 0.5 * (2.7 - 2.9), 2.7]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_cubic_lookahead_falls_to_its_step_size_and_ends_on_the_slow_weights():
    weights = weights_after(
        Lookahead(SGD(), 2, step_size=0.4, cubic=True), [1, 1, 1, 1, 1], 0.1, 0.0
    )
    steps = [1 - 0.6 * (n / len(SGD_GRADIENTS)) ** 3 for n in (2, 4)]
    first = 3 + steps[0] * (2.8 - 3)
    second = first + steps[1] * -0.2
    expected = [2.9, first, first - 0.1, second, second - 0.1]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_last_step_returns_to_the_slow_weights():
    weights = weights_after(
        Lookahead(SGD(), 3, step_size=1.0, cubic=True), SGD_GRADIENTS, 0.1, 0.0
    )
    np.testing.assert_allclose(weights, [2.9, 2.95, 2.75, 2.75], rtol=1e-6)


def test_muon_matches_its_published_update():
    # Jordan's airbench94_muon.py, in float64: the momentum, then three iterations.
    random = np.random.RandomState(0)
    gradients = random.standard_normal((3, 3, 3, 5, 4))
    kernel, momentum = random.standard_normal((3, 3, 5, 4)), 0.0
    tx = create(Muon(beta=0.6, steps=3, keep_norm=True))
    params = {"layer": {"kernel": jnp.asarray(kernel, jnp.float32)}}
    state = tx.init(params)
    for gradient in gradients:
        grads = {"layer": {"kernel": jnp.asarray(gradient, jnp.float32)}}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        momentum = 0.6 * momentum + gradient
        # By outputs, as in PyTorch.
        matrix = (gradient + 0.6 * momentum).reshape(-1, 4).T
        matrix /= np.linalg.norm(matrix) + 1e-7
        for _ in range(3):
            square = matrix @ matrix.T
            factor = -4.7750 * square + 2.0315 * square @ square
            matrix = 3.4445 * matrix + factor @ matrix
        kernel *= 4**0.5 / np.linalg.norm(kernel)
        kernel -= 0.1 * matrix.T.reshape(kernel.shape)
        np.testing.assert_allclose(params["layer"]["kernel"], kernel, atol=2e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd(momentum=0.9)",
        pytest.param("adamw", marks=pytest.mark.slow),
        pytest.param("muon", marks=pytest.mark.slow),
        pytest.param("lion", marks=pytest.mark.slow),
        pytest.param("lookahead(adamw, period=2)", marks=pytest.mark.slow),
    ],
)
def test_batch_norm_statistics_follow_the_batches(optimizer, dataset):
    config = Config(model="batch_norm", optimizer=optimizer, learning_rate=0.01)
    program = build_program(config, num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    take_step = jax.jit(functools.partial(train_step, program))
    mean, average = np.zeros(8), np.zeros(8)
    for step in range(4):
        part = slice(8 * step, 8 * step + 8)
        batch = Batch.of(dataset.train.images[part], dataset.train.labels[part])
        mean = 0.9 * mean + 0.1 * batch_mean(program, state, batch)
        decay = min(config.ema_decay, (2 + step) / (11 + step))
        average = decay * average + (1 - decay) * mean
        state, losses = take_step(state, batch)
        assert np.isfinite(losses["total_loss"])
        stats = state.batch_stats["norm"]["mean"]
        np.testing.assert_allclose(stats, mean, rtol=1e-4, atol=1e-5)
        averaged = state.averaged_variables["batch_stats"]["norm"]["mean"]
        np.testing.assert_allclose(averaged, average, rtol=1e-4, atol=1e-5)


look_inside = jax.jit(inspect, static_argnums=0)


def batch_mean(program, state, batch):
    """Returns the mean of the convolution's outputs, which BatchNorm normalizes."""
    inside = look_inside(program, state, batch)
    _, kept = program.model.apply(
        state.variables,
        inside.images,
        capture_intermediates=lambda module, _: module.name == "conv",
        mutable=["intermediates"],
    )
    return np.mean(kept["intermediates"]["conv"]["__call__"][0], axis=(0, 1, 2))
