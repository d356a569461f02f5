"""How much time do the convolution methods in `cifar_jax.ops` save on a CPU?

    python -m experiments.speed.convolutions --json=convolutions.json

Times convolutions of ResNet-18, VGG-16, Airbench, MobileNet, RegNet and DPN, output and
both gradients together, alternating between XLA ("plain") and
`cifar_jax.ops.conv_general_dilated` ("fast"), with the same compiler options. Prints
the median milliseconds, and the speedup with its range over the rounds. The method
`direct` is left out: it saves nothing by itself, only where XLA would fuse a
transposition with the operations before it. Takes about three minutes on 2 cores.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Array

from cifar_jax import compiler_options
from cifar_jax.ops import Implementation, conv_general_dilated
from experiments.harness import common, machine, output

WAYS: tuple[Implementation, ...] = ("plain", "fast")

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Case:
    """A 3x3 convolution with equally many input and output channels."""

    method: str
    size: int
    channels: int
    strides: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        """The image size, channels and strides, and the groups unless depthwise."""
        strides = f", strides {self.strides}" if self.strides > 1 else ""
        is_grouped = 1 < self.groups < self.channels
        groups = f", {self.groups} groups" if is_grouped else ""
        return f"{self.size}x{self.size}x{self.channels}{strides}{groups}"


CASES = (
    Case("Winograd", 32, 64),
    Case("Winograd", 16, 128),
    Case("Winograd", 15, 64),
    Case("Winograd", 8, 256),
    Case("Winograd", 7, 256),
    Case("Winograd", 4, 512),
    Case("tiny images", 2, 512),
    Case("tiny images", 1, 512),
    Case("depthwise", 16, 64, strides=2, groups=64),
    Case("depthwise", 8, 128, groups=128),
    Case("depthwise", 2, 512, groups=512),
    Case("grouped", 8, 384, groups=24),
    Case("grouped", 4, 768, groups=32),
)


def values_and_gradients(
    case: Case, implementation: Implementation, x: Array, kernel: Array
) -> Any:
    """Returns the output and gradients of a convolution with padding 1."""
    conv = functools.partial(
        conv_general_dilated,
        strides=(case.strides, case.strides),
        padding=((1, 1), (1, 1)),
        implementation=implementation,
        feature_group_count=case.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y, pullback = jax.vjp(conv, x, kernel)
    return y, pullback(y)


def durations(case: Case, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each round, by implementation."""
    random, channels = np.random.RandomState(0), case.channels
    x = random.standard_normal((batch_size, case.size, case.size, channels))
    kernel = random.standard_normal((3, 3, channels // case.groups, channels))
    arguments = jax.device_put((x.astype(np.float32), kernel.astype(np.float32)))
    compiled = {
        way: jax.jit(
            functools.partial(values_and_gradients, case, way),
            compiler_options=compiler_options(),
        )
        for way in WAYS
    }
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(1 + rounds):
        for way, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            found[way].append(1000 * (time.perf_counter() - began))
    # The first round compiles.
    return {way: times[1:] for way, times in found.items()}


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("batch_size", 128, "Images per batch.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Timed runs of each case.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures, prints and saves the durations."""
    del argv
    facts = machine.machine() | {"device": machine.device()}
    print(output.describe(facts), flush=True)
    rows, records = [], []
    for case in CASES:
        found = durations(case, FLAGS.batch_size, FLAGS.rounds)
        ratios = np.array(found["plain"]) / np.array(found["fast"])
        medians = [f"{np.median(found[way]):.1f}" for way in WAYS]
        spread = f"{np.median(ratios):.1f} ({ratios.min():.1f}-{ratios.max():.1f})"
        rows.append([case.name, case.method, *medians, spread])
        records.append(dataclasses.asdict(case) | found)
    header = ["images", "method", "plain ms", "fast ms", "speedup"]
    print(output.table(header, rows))
    sizes = {"batch_size": FLAGS.batch_size, "rounds": FLAGS.rounds}
    output.keep({"machine": facts} | sizes | {"cases": records})


if __name__ == "__main__":
    common.run(main, define_flags)
