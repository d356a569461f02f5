"""Tests local response normalization against its definition in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from cifar_jax.ops import local_response_norm

BOTH = ("fast", "plain")


def by_definition(x, depth_radius, bias, alpha, beta):
    x = np.asarray(x, np.float64)
    out = np.empty_like(x)
    for channel in range(x.shape[-1]):
        nearby = x[..., max(0, channel - depth_radius) : channel + depth_radius + 1]
        scale = bias + alpha * (nearby**2).sum(axis=-1)
        out[..., channel] = x[..., channel] / scale**beta
    return out


@settings(max_examples=8)
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
    expected = by_definition(x, **constants)
    norm = functools.partial(local_response_norm, **constants)
    both = jax.jit(lambda x: [norm(x, implementation=name) for name in BOTH])
    for normed in both(x):
        np.testing.assert_allclose(normed, expected, rtol=1e-5)


@pytest.mark.parametrize("implementation", BOTH)
def test_over_two_axes_equals_the_definition(implementation):
    x = 5 * np.random.RandomState(0).standard_normal((2, 6, 1, 7))
    expected = np.empty_like(x)
    for i, j in np.ndindex(6, 7):
        rows = slice(max(0, i - 2), i + 3)
        nearby = x[:, rows, :, max(0, j - 2) : j + 3]
        scale = 1.5 + 0.1 * (nearby**2).sum(axis=(1, 3))
        expected[:, i, :, j] = x[:, i, :, j] / scale**0.75
    norm = functools.partial(
        local_response_norm,
        depth_radius=2,
        bias=1.5,
        alpha=0.1,
        axis=(1, -1),
        implementation=implementation,
    )
    normed = jax.jit(norm)(np.float32(x))
    np.testing.assert_allclose(normed, expected, rtol=1e-5)


def test_the_defaults_match_the_tutorial():
    x = 50 * jax.random.normal(jax.random.key(0), (2, 3, 64))
    expected = by_definition(x, depth_radius=4, bias=1, alpha=0.001 / 9, beta=0.75)
    normed = jax.jit(local_response_norm)(x)
    np.testing.assert_allclose(normed, expected, rtol=2e-6)


@pytest.mark.parametrize("implementation", BOTH)
def test_gradient(implementation):
    @jax.jit
    def norm(x):
        return local_response_norm(x, implementation=implementation)

    x = 50 * jax.random.normal(jax.random.key(0), (2, 16))
    check_grads(norm, (x,), order=1, modes=["rev"], eps=1.0)


@pytest.mark.parametrize(
    ("axis", "beta"),
    [(-1, 0.75), (-1, 0.6), (0, 0.75), (2, 0.6), ((0, 1), 0.75), ((1, -1), 0.6)],
)
def test_implementations_agree_along_any_axis_in_jit_and_scan(axis, beta):
    x = 50 * jax.random.normal(jax.random.key(0), (2, 12, 5, 11, 3))
    dy = jax.random.normal(jax.random.key(1), x.shape)

    def value_and_gradient(implementation, x, dy):
        norm = functools.partial(
            local_response_norm, beta=beta, axis=axis, implementation=implementation
        )
        y, pullback = jax.vjp(norm, x)
        return y, *pullback(dy)

    @jax.jit
    def in_scan(x, dy):
        def body(carry, batch):
            return carry, {
                name: value_and_gradient(name, *batch) for name in ("auto", *BOTH)
            }

        return jax.lax.scan(body, 0, (x, dy))[1]

    results = in_scan(x, dy)
    for implementation in ("auto", "fast"):
        pairs = zip(results[implementation], results["plain"], strict=True)
        for result, expected in pairs:
            # A few rounding errors of 2^-24 = 6e-8 (measured: 1e-7).
            error = np.linalg.norm(result - expected)
            assert error <= 1e-6 * np.linalg.norm(expected)


def test_keeps_the_dtype():
    x = jnp.ones((2, 8), jnp.bfloat16)
    assert jax.eval_shape(local_response_norm, x).dtype == jnp.bfloat16
