"""Tests each term of the loss against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from cifar_jax.optimization.losses import CrossEntropy, SquaredError


def test_cross_entropy():
    random = np.random.RandomState(0)
    logits = 5 * random.standard_normal((16, 10))
    labels = random.randint(10, size=16)
    expected = np.mean(logsumexp(logits, axis=1) - logits[np.arange(16), labels])
    loss = CrossEntropy()(jnp.asarray(logits, jnp.float32), labels)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.1, 1.0])
def test_label_smoothing_mixes_in_the_uniform_distribution(label_smoothing):
    random = np.random.RandomState(0)
    logits = 5 * random.standard_normal((16, 10))
    labels = random.randint(10, size=16)
    targets = (1 - label_smoothing) * np.eye(10)[labels] + label_smoothing / 10
    log_probabilities = logits - logsumexp(logits, axis=1, keepdims=True)
    expected = -np.mean(np.sum(targets * log_probabilities, axis=1))
    loss = CrossEntropy(label_smoothing)(jnp.asarray(logits, jnp.float32), labels)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_labels_and_their_one_hot_vectors_give_the_same_loss():
    random = np.random.RandomState(0)
    logits = jnp.asarray(5 * random.standard_normal((16, 10)), jnp.float32)
    labels = random.randint(10, size=16)
    for loss in (CrossEntropy(), CrossEntropy(0.1), SquaredError()):
        soft = loss(logits, jnp.eye(10)[labels])
        assert float(loss(logits, labels)) == pytest.approx(float(soft), rel=1e-6)


def test_soft_targets_are_weighted():
    logits = jnp.array([[1.0, 2.0, 3.0]])
    losses = [float(CrossEntropy()(logits, jnp.array([k]))) for k in range(3)]
    soft = CrossEntropy()(logits, jnp.array([[0.2, 0.0, 0.8]]))
    assert float(soft) == pytest.approx(0.2 * losses[0] + 0.8 * losses[2])


def test_squared_error_is_summed_over_classes():
    logits = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    # The squared distances to the one-hot vectors are 1 + 4 + 4 and 1.
    assert float(SquaredError()(logits, jnp.array([2, 0]))) == pytest.approx(5)


def test_cross_entropy_of_huge_logits_is_finite():
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    assert float(CrossEntropy()(logits, jnp.array([0, 0]))) == 5e3
