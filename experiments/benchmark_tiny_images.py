"""How slow are XLA's convolutions of images that are smaller than the kernel?

    python -m experiments.benchmark_tiny_images --json=tiny_images.json

Times a 3x3 convolution of small images, output and both gradients together, with the
two implementations of `cifar_jax.ops.conv_general_dilated` alternately, and prints a
table of medians. For images at least as large as the kernel both are identical. Takes
about a minute on 2 cores.
"""

import functools
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Array

from cifar_jax.ops import Implementation, conv_general_dilated
from experiments import common, machine, output

WAYS: tuple[Implementation, ...] = ("plain", "fast")

FLAGS = flags.FLAGS


def values_and_gradients(
    implementation: Implementation, x: Array, kernel: Array
) -> Any:
    """Returns the output and gradients of a convolution with SAME padding."""
    conv = functools.partial(
        conv_general_dilated,
        strides=(1, 1),
        padding="SAME",
        implementation=implementation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y, pullback = jax.vjp(conv, x, kernel)
    return y, pullback(y)


def milliseconds(size: int) -> dict[str, float]:
    """Returns the median duration by implementation for images of this size."""
    random, channels = np.random.RandomState(0), FLAGS.channels
    x = random.standard_normal((FLAGS.batch_size, size, size, channels))
    kernel = random.standard_normal((3, 3, channels, channels))
    arguments = jax.device_put((x.astype(np.float32), kernel.astype(np.float32)))
    compiled = {
        way: jax.jit(functools.partial(values_and_gradients, way)) for way in WAYS
    }
    durations: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_ in range(1 + FLAGS.rounds):
        for way, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            if round_:
                durations[way].append(1000 * (time.perf_counter() - began))
    return {way: float(np.median(found)) for way, found in durations.items()}


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("sizes", "1,2,3", "Height and width of the images.")
    flags.DEFINE_integer("channels", 512, "Input and output channels.")
    flags.DEFINE_integer("batch_size", 128, "Images per batch.")
    flags.DEFINE_integer("rounds", 5, "Timed runs of each case.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures, prints and saves the durations."""
    del argv
    facts = machine.machine() | {"device": machine.device()}
    print(output.describe(facts), flush=True)
    cases = [{"size": int(size)} | milliseconds(int(size)) for size in FLAGS.sizes]
    rows = [
        [
            f"{case['size']}x{case['size']}",
            *(f"{case[way]:.1f}" for way in WAYS),
            f"{case['plain'] / case['fast']:.1f}",
        ]
        for case in cases
    ]
    print(output.table(["images", "plain ms", "fast ms", "ratio"], rows))
    sizes = {name: FLAGS[name].value for name in ("channels", "batch_size", "rounds")}
    output.keep({"machine": facts} | sizes | {"cases": cases})


if __name__ == "__main__":
    common.run(main, define_flags)
