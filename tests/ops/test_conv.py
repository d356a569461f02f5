"""Our convolutions against lax's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar_jax.ops import Conv, conv, fourier, im2col

# Of the result's norm. Sums of some thousand products in float32 rounded 2^-24 = 6e-8
# each (measured: 4e-7, and 9e-7 for the gradient of the kernel over large images).
TOLERANCE = 3e-6
# Operands and result rounded to 2^-9 = 0.002 by both (measured: 0.003).
BFLOAT16 = 0.01

sizes = st.integers(1, 13)
taps = st.integers(1, 7)


@pytest.fixture(autouse=True)
def full_precision():
    """Accelerators round the factors of float32 products unless told not to."""
    with jax.default_matmul_precision("highest"):
        yield


def relative_error(result, expected):
    return np.linalg.norm(result - expected) / max(np.linalg.norm(expected), 1e-30)


def normal(seed, *shape):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


def arguments(image, channels, batch, kernel, features):
    return (
        normal(0, *image, channels, batch),
        normal(1, *kernel, channels, features),
        normal(2, *image, features, batch),
    )


@partial(jax.jit, static_argnums=0)
def value_and_gradients(function, x, kernel, dy):
    y, pullback = jax.vjp(function, x, kernel)
    return y, *pullback(dy)


def assert_close(results, expected, tolerance):
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype
        assert result.shape == wanted.shape
        assert relative_error(result, wanted) <= tolerance


@pytest.mark.parametrize("method", [fourier, im2col])
@settings(deadline=None, max_examples=8)
@given(
    image=st.tuples(sizes, sizes),
    channels=st.integers(1, 9),
    batch=st.integers(1, 5),
    kernel=st.tuples(taps, taps),
    features=st.integers(1, 9),
)
@example(image=(12, 12), channels=64, batch=8, kernel=(5, 5), features=64)
@example(image=(24, 24), channels=3, batch=8, kernel=(5, 5), features=64)
@example(image=(1, 2), channels=2, batch=1, kernel=(7, 7), features=3)
@example(image=(6, 7), channels=2, batch=2, kernel=(2, 2), features=3)
@example(image=(2, 1), channels=2, batch=1, kernel=(6, 4), features=3)
def test_equals_lax(method, image, channels, batch, kernel, features):
    args = arguments(image, channels, batch, kernel, features)
    expected = value_and_gradients(partial(conv, implementation="plain"), *args)
    assert_close(
        value_and_gradients(partial(method.conv, jnp.float32), *args),
        expected,
        TOLERANCE,
    )


@pytest.mark.parametrize("method", [fourier, im2col])
def test_every_kernel_size_equals_lax(method):
    """All sizes at once: one program for the 49 of them compiles in seconds."""
    kernels = [(kh, kw) for kh in range(1, 8) for kw in range(1, 8)]
    cases = [arguments((4, 5), 2, 1, kernel, 2) for kernel in kernels]

    def every(function):
        return jax.jit(lambda: [value_and_gradients(function, *args) for args in cases])

    expected = every(partial(conv, implementation="plain"))()
    results = every(partial(method.conv, jnp.float32))()
    for result, wanted in zip(results, expected, strict=True):
        assert_close(result, wanted, TOLERANCE)


@pytest.mark.parametrize(
    ("channels", "kernel"), [(3, (5, 5)), (64, (5, 5)), (16, (1, 1))]
)
@pytest.mark.parametrize("implementation", ["auto", "fast", "plain"])
def test_implementations_agree_in_jit_and_scan(channels, kernel, implementation):
    args = arguments((9, 8), channels, 4, kernel, 5)

    @jax.jit
    def in_scan(implementation_args):
        function = partial(conv, implementation=implementation)
        stacked = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), implementation_args)

        def body(carry, one):
            return carry, value_and_gradients(function, *one)

        return jax.lax.scan(body, 0, stacked)[1]

    expected = value_and_gradients(partial(conv, implementation="plain"), *args)
    results = in_scan(args)
    assert_close([v[0] for v in results], expected, TOLERANCE)
    # Doubling x, kernel and dy quadruples all three results.
    assert_close([v[1] / 4 for v in results], expected, TOLERANCE)


@pytest.mark.parametrize("channels", [3, 64])
def test_bfloat16(channels):
    args = arguments((12, 12), channels, 8, (5, 5), 16)
    narrow = partial(conv, dtype=jnp.bfloat16, implementation="fast")
    results = value_and_gradients(narrow, *args)
    assert {v.dtype for v in results} == {jnp.dtype(jnp.float32)}
    expected = value_and_gradients(partial(conv, implementation="plain"), *args)
    for result, wanted in zip(results, expected, strict=True):
        assert 1e-4 < relative_error(result, wanted) <= BFLOAT16


def lowered(implementation, platform):
    def loss(x, kernel):
        return conv(x, kernel, implementation=implementation).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(
        *arguments((6, 6), 16, 2, (3, 3), 4)[:2]
    )
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    ("implementation", "platform", "fast"),
    [
        ("auto", "cpu", True),
        ("auto", "cuda", False),
        ("fast", "cuda", True),
        ("plain", "cpu", False),
    ],
)
def test_the_choice_is_made_at_lowering(implementation, platform, fast):
    program = lowered(implementation, platform)
    assert ("stablehlo.convolution" in program) is not fast
    assert ("stablehlo.dot_general" in program) is fast


def test_the_first_layer_does_not_pay_for_the_gradient_of_its_input():
    def loss(kernel, x):
        return (conv(x, kernel, implementation="fast") ** 2).sum()

    def operations(argnums):
        compiled = jax.jit(jax.grad(loss, argnums)).lower(kernel, x).compile()
        return compiled.cost_analysis()["flops"]

    x, kernel, _ = arguments((12, 12), 3, 4, (5, 5), 8)
    # The output and both gradients take a product each.
    assert operations(argnums=0) < 0.75 * operations(argnums=(0, 1))


def test_module_has_the_parameters_of_flax():
    images = normal(0, 2, 8, 8, 3)
    key = jax.random.key(0)

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Conv(4, (3, 5), name="conv")(jnp.moveaxis(x, 0, -1))
            return jnp.moveaxis(x, -1, 0)

    class Theirs(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 5), name="conv")(x)

    params = Ours().init(key, images)
    theirs = Theirs().init(key, images)
    jax.tree.map(np.testing.assert_array_equal, params, theirs)
    params["params"]["conv"]["bias"] = jnp.arange(4.0)
    assert_close(
        [Ours().apply(params, images)], [Theirs().apply(params, images)], TOLERANCE
    )
