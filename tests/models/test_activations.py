"""Tests the activation functions."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from cifar_jax.models.activations import gelu


def test_gelu_and_its_derivatives():
    x = np.linspace(-8, 8, 1001)
    cdf, density = stats.norm.cdf(x), stats.norm.pdf(x)
    expected = [x * cdf, cdf + x * density, (2 - x**2) * density]
    functions = [gelu, jax.grad(gelu), jax.grad(jax.grad(gelu))]
    for function, wanted in zip(functions, expected, strict=True):
        found = jax.vmap(function)(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(found, wanted, atol=2e-6)
