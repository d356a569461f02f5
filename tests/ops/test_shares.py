import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.ops.shares import sum_over_shares

SCRIPT = """
import functools, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from cifar_jax.ops import conv, conv_general_dilated, winograd

batch_last = functools.partial(conv, implementation="fast")
grouped = functools.partial(
    conv_general_dilated,
    strides=(1, 1),
    padding="SAME",
    implementation="fast",
    feature_group_count=16,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)
mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
random = np.random.default_rng(0)
kernel = jnp.asarray(random.normal(size={kernel}), jnp.float32)
winograd.MAX_TILES = 9

def gradients(kernel, x):
    loss = lambda kernel, x: jnp.sum({method}(x, kernel) ** 2)
    return jax.grad(loss, (0, 1))(kernel, x)

for batch in (8, 6):
    shape = [9, 9, {channels}]
    shape.insert({axis}, batch)
    x = jnp.asarray(random.normal(size=shape), jnp.float32)
    expected = jax.jit(gradients)(kernel, x)
    with jax.set_mesh(mesh):
        if batch % 4 == 0:
            by_batch = [None] * 4
            by_batch[{axis}] = "data"
            x = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*by_batch)))
        compiled = jax.jit(gradients).lower(kernel, x).compile()
        found = compiled(kernel, x)
    error = max(
        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected)
    )
    text = compiled.as_text()
    print(batch, error < 1e-6, "all-gather" in text, "all-reduce" in text)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "channels", "kernel", "axis"),
    [
        pytest.param("batch_last", 3, (5, 5, 3, 4), 3, id="im2col"),
        pytest.param("batch_last", 8, (5, 5, 8, 4), 3, id="fourier"),
        pytest.param("grouped", 64, (3, 3, 4, 64), 0, id="grouped"),
        pytest.param("winograd.conv", 8, (3, 3, 8, 4), 0, id="winograd"),
    ],
)
def test_devices_sum_their_shares_and_gather_nothing(method, channels, kernel, axis):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    script = SCRIPT.format(method=method, channels=channels, kernel=kernel, axis=axis)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["8 True False True", "6 True False False"]


def test_without_a_mesh_the_function_is_applied_as_it_is():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert jax.make_jaxpr(lambda x: sum_over_shares(jnp.sum, x))(x).pretty_print() == (
        jax.make_jaxpr(jnp.sum)(x).pretty_print()
    )
