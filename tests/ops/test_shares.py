import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.ops.shares import sum_over_shares

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from cifar_jax.ops import conv

mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
random = np.random.default_rng(0)
kernel = jnp.asarray(random.normal(size=(5, 5, {channels}, 4)), jnp.float32)

def of_kernel(kernel, x):
    loss = lambda kernel: jnp.sum(conv(x, kernel, implementation="fast") ** 2)
    return jax.grad(loss)(kernel)

for batch in (8, 6):
    x = jnp.asarray(random.normal(size=(9, 9, {channels}, batch)), jnp.float32)
    expected = jax.jit(of_kernel)(kernel, x)
    with jax.set_mesh(mesh):
        if batch % 4 == 0:
            by_batch = PartitionSpec(None, None, None, "data")
            x = jax.device_put(x, NamedSharding(mesh, by_batch))
        compiled = jax.jit(of_kernel).lower(kernel, x).compile()
        found = compiled(kernel, x)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    text = compiled.as_text()
    print(batch, error < 1e-6, "all-gather" in text, "all-reduce" in text)
"""


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 8], ids=["im2col", "fourier"])
def test_devices_sum_their_shares_and_gather_nothing(channels):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(channels=channels)],
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
