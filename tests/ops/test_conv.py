"""Tests this package's convolutions against lax's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_equal_states
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cifar_jax.ops import Conv, conv, fourier, im2col

# Relative to the result's norm: sums of thousands of float32 products, each rounded by
# 2^-24 = 6e-8 (measured: 4e-7, and 9e-7 for the kernel's gradient over large images).
TOLERANCE = 3e-6
# Operands and result are rounded by 2^-9 = 0.002 in both (measured: 0.003).
BFLOAT16 = 0.01

PLAIN = partial(conv, implementation="plain")
METHODS = {
    "fast": partial(conv, implementation="fast"),
    "fourier": partial(fourier.conv, jnp.float32),
    "im2col": partial(im2col.conv, jnp.float32),
}

sizes = st.integers(1, 13)
few = st.integers(1, 9)


@pytest.fixture(autouse=True)
def full_precision():
    """Keeps accelerators from rounding the factors of float32 products."""
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


def value_and_gradients(function, x, kernel, dy):
    y, pullback = jax.vjp(function, x, kernel)
    return y, *pullback(dy)


def assert_close(results, expected, tolerance, of=""):
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype, of
        assert result.shape == wanted.shape, of
        assert relative_error(result, wanted) <= tolerance, of


def assert_equals_lax(cases):
    """Compares all methods in all cases; one program compiles faster than many."""

    @jax.jit
    def everything(list_of_arguments):
        return [
            {
                name: value_and_gradients(method, *args)
                for name, method in {"lax": PLAIN, **METHODS}.items()
            }
            for args in list_of_arguments
        ]

    results = everything([arguments(*case) for case in cases])
    for case, values in zip(cases, results, strict=True):
        expected = values.pop("lax")
        for method, result in values.items():
            assert_close(result, expected, TOLERANCE, of=f"{method} of {case}")


def test_equals_lax():
    assert_equals_lax(
        [
            # Image, channels, batch, kernel, features; first the tutorial's layers.
            ((24, 24), 3, 8, (5, 5), 64),
            ((12, 12), 64, 8, (5, 5), 64),
            ((1, 2), 2, 1, (7, 7), 3),
            ((6, 7), 2, 2, (2, 2), 3),
            ((2, 1), 2, 1, (6, 4), 3),
        ]
    )


@pytest.mark.slow
# Shrinking is disabled because each attempt would compile for seconds.
@settings(max_examples=1, phases=set(Phase) - {Phase.shrink})
@given(
    heights=st.permutations(range(1, 8)),
    rest=st.lists(
        st.tuples(st.tuples(sizes, sizes), few, st.integers(1, 5), few),
        min_size=7,
        max_size=7,
    ),
)
def test_every_size_of_kernel_equals_lax(heights, rest):
    """Every example contains each height and each width from 1 to 7 once."""
    assert_equals_lax(
        [
            (image, channels, batch, kernel, features)
            for kernel, (image, channels, batch, features) in zip(
                zip(heights, range(1, 8), strict=True), rest, strict=True
            )
        ]
    )


@pytest.mark.parametrize(
    ("channels", "kernel"), [(3, (5, 5)), (64, (5, 5)), (16, (1, 1))]
)
def test_implementations_agree_in_jit_and_scan(channels, kernel):
    @jax.jit
    def in_scan(args):
        def body(carry, one):
            return carry, {
                name: value_and_gradients(partial(conv, implementation=name), *one)
                for name in ("auto", "fast", "plain")
            }

        stacked = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), args)
        return jax.lax.scan(body, 0, stacked)[1]

    results = in_scan(arguments((9, 8), channels, 4, kernel, 5))
    assert_close(results["auto"], results["plain"], TOLERANCE)
    assert_close(results["fast"], results["plain"], TOLERANCE)


@pytest.mark.parametrize("channels", [3, 64])
def test_bfloat16(channels):
    @jax.jit
    def narrow_and_expected(*args):
        narrow = partial(conv, dtype=jnp.bfloat16, implementation="fast")
        return value_and_gradients(narrow, *args), value_and_gradients(PLAIN, *args)

    args = arguments((12, 12), channels, 8, (5, 5), 16)
    results, expected = narrow_and_expected(*args)
    assert {v.dtype for v in results} == {jnp.dtype(jnp.float32)}
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
    # The output and both gradients take one product each.
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

    networks = (Ours(), Theirs())
    ours, theirs = jax.jit(lambda: [net.init(key, images) for net in networks])()
    assert_equal_states(ours, theirs)
    ours["params"]["conv"]["bias"] = jnp.arange(4.0)
    result, expected = jax.jit(
        lambda params: [net.apply(params, images) for net in networks]
    )(ours)
    assert_close([result], [expected], TOLERANCE)
