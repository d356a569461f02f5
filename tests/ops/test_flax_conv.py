"""Tests the methods of convolution against lax, and which of them is taken."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cifar_jax.ops import (
    conv_general_dilated,
    depthwise,
    direct,
    grouped,
    tiny_images,
    winograd,
)

SAME = ((1, 1), (1, 1))
# Relative to the norm: some rounding errors of 2^-24 = 6e-8 (measured: 4e-7), which
# Winograd's transforms amplify (measured for 512 channels: 2.3e-6).
TOLERANCE = 1e-6
WINOGRAD_TOLERANCE = 3e-6


def norm_of_difference(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    norm = np.linalg.norm(b)
    return np.linalg.norm(a - b) / norm if norm else np.linalg.norm(a)


def operands(image, kernel, channels=6, features=4, groups=1, dtype=jnp.float32):
    random = np.random.RandomState(0)
    x = random.standard_normal((3, *image, channels))
    kernels = random.standard_normal((*kernel, channels // groups, features))
    return jnp.asarray(x, dtype), jnp.asarray(kernels, dtype)


def value_and_gradients(conv, x, kernel):
    y, backward = jax.vjp(conv, x, kernel)
    # Not a function of y, whose rounding differs.
    dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return (y, *backward(dy))


def lax_conv(strides, padding, groups=1):
    return functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def assert_equal_lax(method, cases, groups=1, tolerance=TOLERANCE, **sizes):
    """Compares all cases of (image, kernel, strides, padding).

    One program compiles faster than many.
    """

    @jax.jit
    def everything(list_of_operands):
        return [
            (
                value_and_gradients(functools.partial(method, strides, padding), *args),
                value_and_gradients(lax_conv(strides, padding, groups), *args),
            )
            for (_, _, strides, padding), args in zip(
                cases, list_of_operands, strict=True
            )
        ]

    inputs = [operands(*case[:2], groups=groups, **sizes) for case in cases]
    for case, (results, expected) in zip(cases, everything(inputs), strict=True):
        for result, wanted in zip(results, expected, strict=True):
            assert result.shape == wanted.shape, case
            assert norm_of_difference(result, wanted) < tolerance, case


def test_tiny_images():
    assert_equal_lax(
        tiny_images.conv,
        [
            ((1, 1), (3, 3), (1, 1), SAME),
            ((2, 2), (3, 3), (1, 1), SAME),
            ((2, 1), (3, 3), (2, 2), ((0, 1), (1, 1))),
            ((2, 2), (3, 3), (2, 1), ((0, 1), (1, 1))),
            ((4, 3), (7, 7), (2, 2), ((3, 3), (3, 3))),
        ],
    )


def test_direct():
    assert_equal_lax(
        direct.conv,
        [
            ((6, 5), (3, 3), (1, 1), SAME),
            ((6, 6), (3, 3), (2, 2), SAME),
            ((5, 6), (1, 1), (2, 2), ((0, 0), (0, 0))),
            ((9, 8), (7, 7), (2, 2), ((3, 3), (3, 3))),
        ],
    )


@pytest.mark.parametrize(
    ("image", "channels", "features"),
    [
        *(((4, 4), 5, 3), ((8, 4), 5, 3), ((16, 16), 5, 3)),
        # Tiles that are partly outside the image.
        *(((1, 1), 5, 3), ((3, 7), 5, 3), ((6, 9), 5, 3)),
        *(((16, 16), 64, 128), ((8, 8), 512, 256), ((15, 15), 64, 64)),
    ],
)
def test_winograd(image, channels, features):
    assert_equal_lax(
        lambda strides, padding, x, kernel: winograd.conv(x, kernel),
        [(image, (3, 3), (1, 1), SAME)],
        tolerance=WINOGRAD_TOLERANCE,
        channels=channels,
        features=features,
    )


@pytest.mark.parametrize(
    ("image", "groups"),
    # Three images of 2, 4 and 9 tiles. With 4, there is one image more in two groups.
    [((8, 3), 1), ((7, 5), 2), ((11, 10), 3)],
)
def test_winograd_does_a_few_images_at_a_time(monkeypatch, image, groups):
    monkeypatch.setattr(winograd, "MAX_TILES", 8)
    test_winograd(image, 7, 3)
    x, kernel = operands(image, (3, 3), 7, 3)
    program = jax.jit(lambda *args: winograd.conv(*args)).lower(x, kernel).as_text()
    shape = f"{groups}x{math.ceil(3 / groups)}x{image[0]}x{image[1]}x7"
    assert f"tensor<{shape}xf32>" in program


def test_winograd_of_no_images():
    x, kernel = jnp.ones((0, 8, 8, 5)), jnp.ones((3, 3, 5, 4))
    y, grad_x, grad_kernel = value_and_gradients(winograd.conv, x, kernel)
    assert (y.shape, grad_x.shape) == ((0, 8, 8, 4), x.shape)
    assert not grad_kernel.any()


def test_the_transforms_of_winograd_are_exact():
    """In float64, nothing but rounding remains: the algorithm itself is no estimate."""
    inputs, kernels, products = winograd.transforms()
    random = np.random.RandomState(0)
    tile, taps = random.standard_normal((6, 6)), random.standard_normal((3, 3))
    by_winograd = products @ ((inputs @ tile.ravel()) * (kernels @ taps.ravel()))
    windows = np.lib.stride_tricks.sliding_window_view(tile, (3, 3))
    expected = (windows * taps).sum((2, 3))
    np.testing.assert_allclose(by_winograd, expected.ravel(), rtol=1e-12)


@pytest.mark.slow
def test_depthwise():
    assert_equal_lax(
        depthwise.conv,
        [
            # First as in MobileNet.
            ((4, 4), (3, 3), (1, 1), SAME),
            ((8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),
            ((2, 2), (3, 3), (1, 1), SAME),
            ((2, 2), (3, 3), (2, 2), ((0, 1), (0, 1))),
            ((1, 1), (3, 3), (1, 1), SAME),
            # More columns than are added in one loop; 11 are not divisible.
            ((3, 11), (2, 3), (1, 1), ((1, 0), (1, 1))),
            # Strides that skip pixels, and padding that removes some.
            ((7, 6), (1, 2), (3, 2), ((0, 0), (0, 0))),
            ((6, 7), (2, 3), (2, 1), ((-1, 2), (1, -2))),
        ],
        groups=6,
        features=6,
    )


@st.composite
def one_case(draw):
    pad = st.tuples(st.integers(0, 2), st.integers(0, 2))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = draw(st.tuples(pad, pad))
    image = tuple(
        max(draw(st.integers(1, 9)), taps - sum(pad))
        for taps, pad in zip(kernel, pads, strict=True)
    )
    return image, kernel, draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), pads


# Shrinking is disabled because each attempt would compile for seconds. The first
# example consists of the smallest cases only.
@settings(max_examples=2, phases=set(Phase) - {Phase.shrink})
@given(cases=st.lists(one_case(), min_size=3, max_size=3))
def test_depthwise_of_every_size(cases):
    assert_equal_lax(depthwise.conv, cases, groups=6, features=6)


def grouped_conv(groups, strides, padding, x, kernel):
    return grouped.conv(lax_conv(strides, padding), groups, x, kernel)


def test_grouped(monkeypatch):
    monkeypatch.setattr(grouped, "CHANNELS", 8)
    # The last of the five groups is alone.
    assert_equal_lax(
        functools.partial(grouped_conv, 5),
        [
            ((6, 5), (3, 3), (1, 1), SAME),
            ((7, 6), (3, 3), (2, 2), SAME),
            ((5, 4), (1, 1), (1, 1), ((0, 0), (0, 0))),
            ((5, 6), (2, 3), (2, 1), ((1, 0), (0, 2))),
        ],
        groups=5,
        channels=10,
        features=15,
    )


@settings(max_examples=3, phases=set(Phase) - {Phase.shrink})
@given(
    case=one_case(),
    groups=st.integers(2, 7),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    at_a_time=st.integers(1, 12),
)
def test_grouped_of_every_size(case, groups, inputs, outputs, at_a_time):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped, "CHANNELS", at_a_time)
        assert_equal_lax(
            functools.partial(grouped_conv, groups),
            [case],
            groups=groups,
            channels=groups * inputs,
            features=groups * outputs,
        )


@pytest.mark.parametrize(("channels", "features"), [(6, 12), (12, 6)])
def test_as_many_groups_as_channels_or_as_features(channels, features):
    def fast(strides, padding, x, kernel):
        return conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            "fast",
            feature_group_count=6,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    case = ((6, 5), (3, 3), (2, 2), SAME)
    assert_equal_lax(fast, [case], groups=6, channels=channels, features=features)


@pytest.mark.parametrize(
    ("channels", "features", "convolved"),
    [
        # 8 and 16 groups of 4 and 2 channels at a time, and fewer if there are more.
        *((96, 96, [32, 32, 32]), (48, 48, [32, 16]), (48, 96, [16, 16, 16])),
        *((96, 48, [32, 32, 32]), (24, 24, [24]), (960, 960, [40] * 24)),
    ],
)
def test_a_few_groups_are_convolved_at_a_time(channels, features, convolved):
    taken = []

    def convolve(x, kernel):
        taken.append(x.shape[3])
        return lax_conv((1, 1), SAME)(x, kernel)

    shapes = jnp.ones((2, 4, 4, channels)), jnp.ones((3, 3, channels // 24, features))
    jax.eval_shape(functools.partial(grouped.conv, convolve, 24), *shapes)
    assert taken == convolved


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_bfloat16_operands_give_bfloat16(groups):
    x, kernel = operands((2, 2), (3, 3), 6, 6, groups, jnp.bfloat16)
    options = {"feature_group_count": groups, "padding": SAME, "strides": (1, 1)}
    fast, plain = (
        jax.jit(
            functools.partial(
                value_and_gradients,
                functools.partial(
                    conv_general_dilated,
                    implementation=name,
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    **options,
                ),
            )
        )(x, kernel)
        for name in ("fast", "plain")
    )
    for result, wanted in zip(fast, plain, strict=True):
        assert result.dtype == jnp.bfloat16
        # Each is rounded by 2^-9, and a kernel's gradient in lax more than once.
        assert norm_of_difference(result, wanted) < 2**-6


@pytest.mark.parametrize(
    ("image", "channels", "kernel", "options", "method"),
    [
        ((2, 2), 6, 3, {}, tiny_images.conv),
        ((2, 2), 6, 3, {"feature_group_count": 6}, depthwise.conv),
        ((9, 9), 6, 3, {"feature_group_count": 6, "strides": 2}, depthwise.conv),
        ((8, 8), 64, 3, {}, winograd.conv),
        ((8, 8), 64, 3, {"strides": 2}, direct.conv),
        ((8, 8), 64, 3, {"padding": "VALID"}, direct.conv),
        ((7, 8), 64, 3, {}, winograd.conv),
        ((31, 31), 64, 3, {}, winograd.conv),
        ((3, 3), 256, 3, {}, winograd.conv),
        # Too much of the tiles would lie outside the image.
        ((6, 8), 64, 3, {}, direct.conv),
        ((3, 3), 128, 3, {}, direct.conv),
        ((5, 5), 256, 3, {}, direct.conv),
        ((8, 8), 64, 5, {}, direct.conv),
        ((8, 8), 32, 3, {}, direct.conv),
        ((8, 8), 64, 1, {"strides": 2}, direct.conv),
        ((8, 8), 64, 1, {}, None),
        ((8, 8), 6, 3, {}, None),
        ((8, 8), 64, 3, {"kernel_dilation": 2}, None),
        ((8, 8), 64, 3, {"feature_group_count": 2}, direct.conv),
        ((8, 8), 64, 3, {"feature_group_count": 8, "strides": 2}, direct.conv),
        ((8, 8), 128, 3, {"feature_group_count": 2}, winograd.conv),
        ((2, 2), 64, 3, {"feature_group_count": 16}, tiny_images.conv),
        ((8, 8), 64, 1, {"feature_group_count": 2}, None),
        ((8, 8), 64, 3, {"feature_group_count": 2, "kernel_dilation": 2}, None),
    ],
)
def test_the_method_suits_the_shapes(
    monkeypatch, image, channels, kernel, options, method
):
    taken = []
    for module in (depthwise, direct, tiny_images, winograd):
        spy = functools.partial(spied, taken, module.conv)
        monkeypatch.setattr(module, "conv", spy)
    layer = nn.Conv(
        channels,
        (kernel, kernel),
        conv_general_dilated=functools.partial(
            conv_general_dilated, implementation="fast"
        ),
        **options,
    )
    x, _ = operands(image, (kernel, kernel), channels)
    random = np.random.RandomState(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(random.standard_normal(leaf.shape)),
        jax.eval_shape(layer.init, jax.random.key(0), x),
    )
    taken.clear()
    y = jax.jit(layer.apply)(variables, x)
    assert set(taken) == ({method} - {None})
    plain = jax.jit(nn.Conv(channels, (kernel, kernel), **options).apply)
    assert norm_of_difference(y, plain(variables, x)) < WINOGRAD_TOLERANCE


def spied(taken, conv, *args):
    """Notes that a method is taken."""
    taken.append(conv)
    return conv(*args)


@pytest.mark.parametrize(
    ("implementation", "platform", "is_fast"),
    [
        ("auto", "cpu", True),
        ("auto", "cuda", False),
        ("fast", "cuda", True),
        ("plain", "cpu", False),
    ],
)
@pytest.mark.parametrize("groups", [1, 3])
def test_the_choice_is_made_at_lowering(implementation, platform, is_fast, groups):
    conv = functools.partial(
        conv_general_dilated,
        strides=(1, 1),
        padding="SAME",
        implementation=implementation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    traced = jax.jit(functools.partial(value_and_gradients, conv)).trace(
        *operands((2, 2), (3, 3), features=6, groups=groups)
    )
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in program) is not is_fast
