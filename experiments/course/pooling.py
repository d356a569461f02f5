"""Max or mean pooling, and with which window, stride and padding?

    python -m experiments.course.pooling --data_dir=DIR

Trains the tutorial's network with different pooling layers. Prints the output sizes,
the step time and the precision, and writes pooling.json, .csv and .png to
--results_dir. An interrupted experiment resumes where it left off. Takes about 4
minutes per 1,000 steps on 2 cores, with 6 runs per seed.
"""

import functools
import time
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cifar_jax import Batch, Config, build_program, init_state, models, train_step
from cifar_jax.models.tutorial import TutorialCNN
from experiments.harness import common, output, studies
from experiments.harness.studies import Variant


class OtherPools(TutorialCNN):
    """The tutorial's network with configurable pooling; defaults to its own.

    It uses XLA's plain operations, so that speeds are comparable.
    """

    kind: Literal["max", "mean"] = "max"
    window: int = 3
    strides: int = 2
    padding: Literal["SAME", "VALID"] = "SAME"

    def pool(self, x: Float[Array, "h w c n"]) -> Float[Array, "oh ow c n"]:
        """Returns the maximum or mean of each window."""
        window, strides = (self.window, self.window, 1), (self.strides, self.strides, 1)
        # Flax treats the last axis, which is the batch here, as channels.
        if self.kind == "max":
            return nn.max_pool(x, window, strides, self.padding)
        return nn.avg_pool(x, window, strides, self.padding, count_include_pad=False)


POOLS: dict[str, dict[str, Any]] = {
    "max 3x3 stride 2 SAME": {},
    "mean 3x3 stride 2 SAME": {"kind": "mean"},
    "max 3x3 stride 2 VALID": {"padding": "VALID"},
    "max 2x2 stride 2": {"window": 2},
    "mean 2x2 stride 2": {"kind": "mean", "window": 2},
    "max 3x3 stride 3 SAME": {"strides": 3},
}


def draw(record: dict[str, Any]) -> Figure:
    """Draws the study."""
    title = "Max or mean pooling, and with which window and stride?"
    return studies.draw(record, title)


def shapes(network: TutorialCNN) -> list[tuple[int, ...]]:
    """Returns the height, width and channels after conv1 and each pooling layer."""
    images = jax.ShapeDtypeStruct((24, 24, 64, 1), np.float32)
    found = [images]
    for _ in range(2):
        found.append(jax.eval_shape(network.pool, found[-1]))
    return [x.shape[:3] for x in found]


def milliseconds(model: str, steps: int) -> float:
    """Returns the median time of a training step on images of noise."""
    config = Config(**studies.settings() | {"model": model})
    program = build_program(config, num_classes=10)
    images = np.random.RandomState(0).randint(
        256, size=(128, 32, 32, 3), dtype=np.uint8
    )
    batch = Batch.from_arrays(images, np.arange(128) % 10)
    state = init_state(program, jax.random.key(0), images)
    step = jax.jit(functools.partial(train_step, program), donate_argnums=0)
    durations = []
    for _ in range(1 + steps):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        durations.append(time.perf_counter() - began)
    return 1000 * float(np.median(durations[1:]))


def main(argv: list[str]) -> None:
    """Runs the study and saves its results."""
    del argv
    variants: list[Variant] = []
    facts: list[dict[str, Any]] = []
    models.MODELS["other_pools"] = OtherPools
    for name, options in POOLS.items():
        written = ", ".join(f"{option}={value!r}" for option, value in options.items())
        model = f"other_pools({written})"
        variants.append(Variant(name, {"model": model}))
        after = [" x ".join(map(str, shape)) for shape in shapes(OtherPools(**options))]
        speed = milliseconds(model, steps=2 if studies.FLAGS.quick else 20)
        facts.append({"pools": name, "sizes": after, "milliseconds_a_step": speed})
    header = ["pools", "conv1", "after pool1", "after pool2", "ms/step"]
    rows = [
        [fact["pools"], *fact["sizes"], f"{fact['milliseconds_a_step']:.0f}"]
        for fact in facts
    ]
    print(output.table(header, rows), flush=True)
    record = studies.run(variants) | {"pools": facts}
    studies.keep("pooling", record, draw)


if __name__ == "__main__":
    common.run(main, studies.define_flags, draw)
