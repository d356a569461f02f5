"""Tests layers in bfloat16 against lax's in float32.

On the Python and the processors where XLA has oneDNN, it must also be used.
"""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from cifar_jax.devices import compilation, cpu, sharding
from cifar_jax.ops import onednn

# Each result is rounded by at most 2^-9; a sum of roundings has a smaller norm.
TOLERANCE = 2**-8
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))
# Image, kernel, channels, features, strides, padding.
CASES = [
    ((6, 5), (3, 3), 6, 4, (1, 1), SAME),
    ((6, 6), (3, 3), 16, 8, (2, 2), SAME),
    ((7, 6), (3, 3), 16, 8, (2, 2), ((1, 1), (0, 1))),
    ((5, 6), (1, 1), 6, 8, (2, 2), NONE),
    ((4, 4), (1, 1), 6, 8, (1, 1), NONE),
    ((9, 8), (7, 7), 3, 8, (2, 2), ((3, 3), (3, 3))),
    ((6, 6), (2, 2), 3, 8, (1, 1), NONE),
    ((2, 2), (3, 3), 8, 8, (1, 1), SAME),
    ((6, 6), (3, 3), 8, 8, (1, 2), ((2, 3), (0, 4))),
    ((6, 6), (5, 5), 8, 8, (1, 1), ((5, 4), (4, 6))),
]
needs_onednn = pytest.mark.skipif(
    not cpu.has_onednn(), reason="needs jaxlib 0.12 and a CPU with bfloat16"
)


def operands(image, kernel, channels, features, batch=3):
    random = np.random.RandomState(0)
    x = random.standard_normal((batch, *image, channels))
    return jnp.bfloat16(x), jnp.bfloat16(
        random.standard_normal((*kernel, channels, features))
    )


def value_and_gradients(conv, x, kernel):
    y, backward = jax.vjp(conv, x, kernel)
    dy = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return (y, *backward(dy.astype(y.dtype)))


def compiled(function, *arguments):
    return compilation.compile_lowered(jax.jit(function).lower(*arguments))


@functools.cache
def gradients(strides, padding):
    conv = functools.partial(onednn.conv, strides, padding)
    return functools.partial(value_and_gradients, conv)


@pytest.mark.parametrize(
    ("image", "kernel", "channels", "features", "strides", "padding"), CASES
)
def test_equals_lax(image, kernel, channels, features, strides, padding):
    x, weights = operands(image, kernel, channels, features)
    plain = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = value_and_gradients(plain, jnp.float32(x), jnp.float32(weights))
    function = compiled(gradients(strides, padding), x, weights)
    for result, wanted in zip(function(x, weights), expected, strict=True):
        assert (result.shape, result.dtype) == (wanted.shape, jnp.bfloat16)
        error = jnp.linalg.norm(jnp.float32(result) - wanted)
        assert error < TOLERANCE * jnp.linalg.norm(wanted)


@needs_onednn
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("size", [4, 16])
def test_xla_leaves_it_to_onednn(strides, size):
    arguments = operands((size, size), (3, 3), 256, 256, batch=16)
    program = compiled(gradients(strides, SAME), *arguments).as_text()
    # The result and its gradient with respect to the input.
    assert program.count("onednn_conv_config") == 2
    assert "__onednn$matmul" not in program


def test_results_do_not_depend_on_the_run_or_on_loops():
    arguments = operands((8, 8), (3, 3), 64, 64, batch=32)
    function = gradients((1, 1), SAME)
    once = compiled(function, *arguments)
    first = [np.asarray(value).tobytes() for value in once(*arguments)]

    def loop(y, *arguments):
        return lax.fori_loop(
            0, 1, lambda _, values: function(*values[1:]), (y, *arguments)
        )

    looped = compiled(loop, once(*arguments)[0], *arguments)
    for _ in range(3):
        again = once(*arguments)
        for values in (again, looped(again[0], *arguments)):
            assert [np.asarray(value).tobytes() for value in values] == first


def test_a_batch_may_be_shared_by_devices():
    """Shares it among the devices that there are; the next test has 8."""
    mesh = sharding.create_mesh()
    x, kernel = operands((8, 8), (3, 3), 64, 64, batch=4 * mesh.size)
    function = gradients((1, 1), SAME)
    whole = compiled(function, x, kernel)(x, kernel)
    shared = NamedSharding(mesh, PartitionSpec(sharding.AXIS))
    arguments = jax.device_put(x, shared), sharding.replicate(mesh, kernel)
    with jax.set_mesh(mesh):
        parts = compiled(function, *arguments)(*arguments)
    for part, wanted in zip(parts, whole, strict=True):
        error = jnp.linalg.norm(jnp.float32(part) - jnp.float32(wanted))
        assert error < TOLERANCE * jnp.linalg.norm(jnp.float32(wanted))


@pytest.mark.slow
def test_a_batch_may_be_shared_by_eight_devices():
    flags = "--xla_force_host_platform_device_count=8"
    test = f"{__file__}::{test_a_batch_may_be_shared_by_devices.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", test],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout


def test_dense_equals_lax():
    random = np.random.RandomState(0)
    x, kernel = (
        jnp.bfloat16(random.standard_normal(shape)) for shape in ((6, 8), (8, 4))
    )
    function = functools.partial(value_and_gradients, onednn.dense)
    expected = value_and_gradients(jnp.matmul, jnp.float32(x), jnp.float32(kernel))
    results = compiled(function, x, kernel)(x, kernel)
    for result, wanted in zip(results, expected, strict=True):
        error = jnp.linalg.norm(jnp.float32(result) - wanted)
        assert error < TOLERANCE * jnp.linalg.norm(wanted)


@needs_onednn
def test_xla_leaves_dense_layers_to_ynnpack():
    """JAX writes the gradient with respect to the kernel in a form for oneDNN."""
    images, kernel = operands((4, 4), (3, 3), 32, 256, batch=64)
    weights = jnp.ones((4096, 1024), jnp.bfloat16)

    def network(dense, x, kernel, weights):
        y = onednn.conv((1, 1), SAME, x, kernel).reshape(len(x), -1)
        return dense(y, weights).astype(jnp.float32).sum()

    for dense, expected in ((onednn.dense, True), (jnp.matmul, False)):
        function = jax.grad(functools.partial(network, dense), argnums=(1, 2))
        program = compiled(function, images, kernel, weights).as_text()
        assert ("__onednn$convolution" in program) == expected
        assert "__onednn$matmul" not in program
