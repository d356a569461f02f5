"""LRN against its definition, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from cifar_jax.ops import local_response_norm


def by_definition(x, depth_radius, bias, alpha, beta):
    x = np.asarray(x, np.float64)
    out = np.empty_like(x)
    for channel in range(x.shape[-1]):
        nearby = x[..., max(0, channel - depth_radius) : channel + depth_radius + 1]
        scale = bias + alpha * (nearby**2).sum(axis=-1)
        out[..., channel] = x[..., channel] / scale**beta
    return out


@settings(deadline=None, max_examples=15)
@given(
    batch=st.lists(st.integers(1, 3), max_size=3),
    channels=st.integers(1, 20),
    depth_radius=st.integers(0, 6),
    bias=st.floats(0.5, 2),
    alpha=st.floats(0, 2),
    beta=st.floats(0.1, 1.5),
)
def test_equals_the_definition(batch, channels, **constants):
    x = np.random.RandomState(0).standard_normal((*batch, channels)).astype(np.float32)
    normed = local_response_norm(jnp.asarray(x), **constants)
    np.testing.assert_allclose(normed, by_definition(x, **constants), rtol=1e-5)


def test_the_defaults_are_the_tutorials():
    x = 50 * jax.random.normal(jax.random.key(0), (2, 3, 64))
    expected = by_definition(x, depth_radius=4, bias=1, alpha=0.001 / 9, beta=0.75)
    np.testing.assert_allclose(local_response_norm(x), expected, rtol=2e-6)


def test_gradient():
    x = 50 * jax.random.normal(jax.random.key(0), (2, 16))
    check_grads(local_response_norm, (x,), order=1, modes=["rev"], eps=1.0)


def test_keeps_the_type():
    x = jnp.ones((2, 8), jnp.bfloat16)
    assert local_response_norm(x).dtype == jnp.bfloat16
