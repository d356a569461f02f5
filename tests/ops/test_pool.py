"""Tests this package's max pooling against lax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar_jax.ops import max_pool, max_pool_channels_last

windows = st.integers(1, 4)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def values_and_gradients(x, window, strides, implementations=("fast", "plain")):
    """Returns a maximum and its gradient for each implementation."""

    def of_one(implementation):
        y, pullback = jax.vjp(lambda x: max_pool(x, window, strides, implementation), x)
        dy = np.random.RandomState(1).standard_normal(y.shape)
        return y, pullback(jnp.asarray(dy, y.dtype))[0]

    return [of_one(name) for name in implementations]


@settings(max_examples=5)
@given(
    image=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    channels=st.integers(1, 4),
    batch=st.integers(1, 3),
    window=st.tuples(windows, windows),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@example(image=(24, 24), channels=4, batch=2, window=(3, 3), strides=(2, 2))
@example(image=(2, 2), channels=1, batch=1, window=(17, 17), strides=(1, 1))
def test_equals_lax(image, channels, batch, window, strides):
    # Integers produce many ties, in which the gradient goes to the first maximum.
    x = np.random.RandomState(0).randint(-2, 3, (*image, channels, batch))
    x = jnp.asarray(x, jnp.float32)
    (y, dx), (expected_y, expected_dx) = values_and_gradients(x, window, strides)
    np.testing.assert_array_equal(y, expected_y)
    # Up to 16 contributions are summed in a different order.
    np.testing.assert_allclose(dx, expected_dx, atol=2e-5)


def test_agrees_with_flax_in_jit_and_scan():
    x = jax.random.normal(jax.random.key(0), (2, 11, 12, 3, 4))

    @jax.jit
    def pooled(x):
        def body(carry, x):
            implementations = ("auto", "fast", "plain")
            return carry, values_and_gradients(x, (3, 3), (2, 2), implementations)

        return jax.lax.scan(body, 0, x)[1]

    results = pooled(x)
    expected = nn.max_pool(jnp.moveaxis(x[1], -1, 0), (3, 3), (2, 2), "SAME")
    _, expected_dx = results[-1]
    for y, dx in results:
        np.testing.assert_array_equal(y[1], jnp.moveaxis(expected, 0, -1))
        np.testing.assert_allclose(dx, expected_dx, atol=1e-6)


def test_bfloat16():
    x = jax.random.normal(jax.random.key(0), (7, 7, 2, 2), jnp.bfloat16)
    (y, dx), (expected_y, expected_dx) = values_and_gradients(x, (3, 3), (2, 2))
    assert y.dtype == dx.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, expected_y)
    # Our sums are in float32; lax rounds each of up to four terms by 2^-9.
    np.testing.assert_allclose(
        dx.astype(jnp.float32), expected_dx.astype(jnp.float32), atol=0.05
    )


@pytest.mark.parametrize("implementation", ["fast", "plain"])
def test_keeps_nan(implementation):
    x = jnp.zeros((4, 4, 1, 1)).at[1, 1].set(jnp.nan)
    y = max_pool(x, (2, 2), (2, 2), implementation)
    np.testing.assert_array_equal(
        jnp.isnan(y[..., 0, 0]), [[True, False], [False, False]]
    )


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_only_plain_gradients_are_scattered(platform):
    def lowered(implementation):
        def gradient(x):
            y, pullback = jax.vjp(
                lambda x: max_pool(x, (3, 3), (2, 2), implementation), x
            )
            return pullback(y)

        traced = jax.jit(gradient).trace(jnp.zeros((6, 6, 2, 2), jnp.bfloat16))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "select_and_scatter" in lowered("plain")
    assert "select_and_scatter" not in lowered("auto")
    # CPUs are slow in bfloat16; other devices move half as much data in it.
    assert ("xf32>" in lowered("auto")) == (platform == "cpu")


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((2, 2), (2, 2), "VALID"),
        ((3, 3), (2, 2), ((1, 1), (1, 1))),
        ((3, 2), (1, 2), "SAME"),
    ],
)
def test_channels_last_agrees_with_flax(window, strides, padding):
    random = np.random.RandomState(0)
    x = jnp.asarray(random.standard_normal((2, 7, 6, 3)), jnp.float32)

    @jax.jit
    def both(x):
        y, backward = jax.vjp(
            lambda x: max_pool_channels_last(x, window, strides, "fast", padding), x
        )
        expected, backward_expected = jax.vjp(
            lambda x: nn.max_pool(x, window, strides, padding), x
        )
        dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return (y, *backward(dy)), (expected, *backward_expected(dy))

    (y, dx), (expected, dx_expected) = both(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(dx, dx_expected, rtol=1e-6, atol=1e-6)
