"""Tests convolution of tiny images against lax, and that the fast path is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cifar_jax.ops.tiny_images import conv_general_dilated


def norm_of_difference(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def operands(size, kernel=3, dtype=jnp.float32):
    random = np.random.RandomState(0)
    x = random.standard_normal((5, *size, 6))
    kernels = random.standard_normal((kernel, kernel, 6, 4))
    return jnp.asarray(x, dtype), jnp.asarray(kernels, dtype)


def conv(implementation, strides, padding):
    return functools.partial(
        conv_general_dilated,
        strides=strides,
        padding=padding,
        implementation=implementation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding"),
    [
        ((1, 1), 3, (1, 1), "SAME"),
        ((2, 2), 3, (1, 1), "SAME"),
        ((2, 1), 3, (2, 2), "SAME"),
        ((2, 2), 3, (2, 1), ((0, 1), (1, 1))),
        ((4, 3), 7, (2, 2), ((3, 3), (3, 3))),
    ],
)
def test_values_and_gradients_match_lax(size, kernel, strides, padding):
    @jax.jit
    def both(x, kernels):
        y, backward = jax.vjp(conv("plain", strides, padding), x, kernels)
        y_fast, backward_fast = jax.vjp(conv("fast", strides, padding), x, kernels)
        dy = jnp.cos(y)
        return (y_fast, *backward_fast(dy)), (y, *backward(dy))

    for fast, plain in zip(*both(*operands(size, kernel)), strict=True):
        assert fast.shape == plain.shape
        # Sums of up to 300 products (measured: 3e-7).
        assert norm_of_difference(fast, plain) < 1e-6


def test_bfloat16_operands_give_bfloat16():
    x, kernels = operands((2, 2), dtype=jnp.bfloat16)
    fast, plain = (conv(i, (1, 1), "SAME")(x, kernels) for i in ("fast", "plain"))
    assert fast.dtype == plain.dtype == jnp.bfloat16
    assert norm_of_difference(fast, plain) < 2**-8
    grads = jax.jit(jax.grad(lambda k: conv("fast", (1, 1), "SAME")(x, k).sum()))
    assert jnp.isfinite(grads(kernels)).all()


@pytest.mark.parametrize(
    ("size", "options", "is_fast"),
    [
        ((2, 2), {}, True),
        ((3, 3), {}, False),
        ((2, 3), {}, False),
        ((2, 2), {"feature_group_count": 6}, False),
        ((2, 2), {"kernel_dilation": 2}, False),
    ],
)
def test_only_tiny_images_take_the_fast_path(size, options, is_fast):
    layer = nn.Conv(
        6,
        (3, 3),
        conv_general_dilated=functools.partial(
            conv_general_dilated, implementation="fast"
        ),
        **options,
    )
    x, _ = operands(size)
    random = np.random.RandomState(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(random.standard_normal(leaf.shape)),
        jax.eval_shape(layer.init, jax.random.key(0), x),
    )
    program = jax.jit(layer.apply).lower(variables, x)
    assert ("stablehlo.convolution" in program.as_text()) is not is_fast
    y = program.compile()(variables, x)
    plain = jax.jit(nn.Conv(6, (3, 3), **options).apply)
    np.testing.assert_allclose(y, plain(variables, x), atol=1e-5)
