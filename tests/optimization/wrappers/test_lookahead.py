"""Tests Lookahead by its paper's algorithm."""

import jax.numpy as jnp
import numpy as np
import pytest
from chains import create, descend

from cifar_jax import UserError
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.registry import resolve

GRADIENTS = (1.0, -0.5, 2.0, 0.25)


def weights_after(optimizer, gradients):
    """Returns a weight that starts at 3 after each of these gradients."""
    tx = create(optimizer, max_steps=4)
    gradients = [{"kernel": jnp.float32(gradient)} for gradient in gradients]
    params = {"kernel": jnp.float32(3.0)}
    return [float(after["kernel"]) for after, _ in descend(tx, gradients, params)]


def test_lookahead_matches_its_paper():
    weights = weights_after("lookahead(sgd, 2, 0.5)", [1, 1, 1, 1, 1])
    # Zhang et al. 2019, algorithm 1: every two steps, halfway back to the slow weight.
    expected = [2.9, 3 + 0.5 * (2.8 - 3), 2.8, 2.9 + 0.5 * (2.7 - 2.9), 2.7]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_cubic_lookahead_falls_to_its_step_size_and_ends_on_the_slow_weights():
    weights = weights_after(
        "lookahead(sgd, 2, step_size=0.4, cubic=True)", [1, 1, 1, 1, 1]
    )
    steps = [1 - 0.6 * (n / len(GRADIENTS)) ** 3 for n in (2, 4)]
    first = 3 + steps[0] * (2.8 - 3)
    second = first + steps[1] * -0.2
    expected = [2.9, first, first - 0.1, second, second - 0.1]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_last_step_returns_to_the_slow_weights():
    weights = weights_after("lookahead(sgd, 3, step_size=1.0, cubic=True)", GRADIENTS)
    np.testing.assert_allclose(weights, [2.9, 2.95, 2.75, 2.75], rtol=1e-6)


@pytest.mark.parametrize(
    "optimizer", ["lookahead(clip(lookahead(sgd)))", "lookahead(schedule_free(sgd))"]
)
def test_nothing_else_moves_the_params_of_slow_weights(optimizer):
    with pytest.raises(UserError, match="already keeps weights of its own"):
        resolve(optimizer, OPTIMIZERS, "optimizer")
