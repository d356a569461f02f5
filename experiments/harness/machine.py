"""The machine that an experiment runs on, and processes that use its devices.

Experiments measure in child processes. A child's peak memory starts from its parent's,
so anything that needs JAX or the data runs in a child as well.
"""

import concurrent.futures
import datetime
import importlib.metadata
import multiprocessing
import os
import pathlib
import platform
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from cifar_jax.studies.side_by_side import available_cores

FAKE_DEVICES = 8


def device() -> str:
    """Returns the platform and the name of JAX's first device."""
    import jax

    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"


def matrix_product_peak() -> dict[str, Any]:
    """Measures the fastest of several square matrix products, in GFLOP/s.

    Matrices have 2,048 rows, or 8,192 where that would be too quick to time. Products
    of bfloat16 matrices are float32, as in training. On a GPU, JAX multiplies float32
    as TF32.
    """
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32))
    rates = {}
    for dtype in ("float32", "bfloat16"):
        x = jnp.ones((size, size), dtype)
        product(x).block_until_ready()
        durations = []
        for _ in range(8):
            began = time.perf_counter()
            product(x).block_until_ready()
            durations.append(time.perf_counter() - began)
        rates[dtype] = 2 * size**3 / min(durations) / 1e9
    return {"device": device(), "size": size} | rates


def memory_peak() -> float:
    """Measures how fast two arrays of 256 MB are added, in GB/s read and written."""
    import jax
    import jax.numpy as jnp

    add = jax.jit(lambda x, y: x + y, donate_argnums=0)
    x, y = jnp.ones((2, 2**26))
    durations = []
    for _ in range(8):
        began = time.perf_counter()
        x = add(x, y).block_until_ready()
        durations.append(time.perf_counter() - began)
    return 3 * y.nbytes / min(durations) / 1e9


def machine() -> dict[str, Any]:
    """Returns what readers need to compare results between machines, and the date."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("jax", "jaxlib", "flax", "numpy")
    }
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": len(available_cores()),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    # Linux only: on other systems, Python itself knows the processor's name.
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(r"model name\s*: (.+)", text)
    return found[1] if found else platform.processor()


def number_of_devices() -> int:
    """Returns the number of devices that JAX sees."""
    import jax

    return jax.device_count()


def device_counts(asked: Sequence[str]) -> list[int]:
    """Returns the requested counts, or 1, 2, 4, ...; a CPU has FAKE_DEVICES.

    Child processes started later see that many devices.
    """
    fake = f"--xla_force_host_platform_device_count={FAKE_DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fake}"
    available = isolated(number_of_devices)
    if asked:
        return [int(count) for count in asked]
    return [1 << i for i in range(available.bit_length())]


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in its own process and returns the result."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def name(facts: dict[str, Any]) -> str:
    """Returns the processor's name, such as "AMD EPYC, 2 cores" or "NVIDIA H100"."""
    kind, device_name = facts["device"].split(": ", 1)
    if kind == "cpu":
        cores = "1 core" if facts["cores"] == 1 else f"{facts['cores']} cores"
        return f"{facts['processor']}, {cores}"
    return device_name
