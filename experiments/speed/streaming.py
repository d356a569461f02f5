"""Does training slow down when pictures are read from disk as needed?

    python -m experiments.speed.streaming --data_dir=DIR --json=streaming.json

Saves enlarged images of the data set as JPEG files in a temporary folder and loads them
with --dataset=folder: the first time, they are decoded; later, they come from the
cache. Then reads random batches from the cache, and takes training steps alternately
with --stream and with all images on the devices. The share is the speed with --stream
divided by the other one; at 1, no step waits for its images. Takes about 2 minutes on 2
cores with the defaults.

The cache is in the temporary folder and, once written, in the operating system's
memory, so this does not measure a disk. A data set larger than memory can be read no
faster than its disk allows.
"""

import os
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
from absl import flags

from experiments.harness import common, machine, output

# Sizes in the cache. The network always sees 24x24 pixels of each picture, so that it
# is fast and needs images at a high rate.
PICTURE_SIZES = (32, 256)
BATCH_SIZE = 128

FLAGS = flags.FLAGS


def write_pictures(
    folder: str, count: int, size: int, dataset: str, data_dir: str
) -> None:
    """Saves pictures in one folder per class; runs in `machine.isolated`."""
    from PIL import Image

    from cifar_jax import load_data

    data = load_data(dataset, data_dir or None)
    for index, image in enumerate(data.train.images[:count]):
        name = data.class_names[data.train.labels[index]]
        path = pathlib.Path(folder) / name / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((size, size)).save(path)


def measure(folder: str, picture_size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Returns the speeds with pictures of one size; runs in `machine.isolated`."""
    import jax

    from cifar_jax import Config, build_program, load_data
    from cifar_jax.devices import sharding
    from cifar_jax.devices.strategies import Jit
    from cifar_jax.training import initial
    from cifar_jax.training.compiled import CompiledSteps

    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        data = load_data("folder", folder, picture_size=picture_size)
        seconds.append(time.perf_counter() - began)
    count = len(data.train) + len(data.test)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.train))
    began = time.perf_counter()
    for start in range(0, len(order), BATCH_SIZE):
        data.train.images[order[start : start + BATCH_SIZE]]
    reading = time.perf_counter() - began
    strategy = Jit(sharding.create_mesh())
    config = Config(batch_size=BATCH_SIZE, train_dir=None)
    program = build_program(config, len(data.class_names))
    state = initial.create(program, 0, data.train.images, strategy.mesh)
    compiled = {
        stream: CompiledSteps(
            program, data.train, BATCH_SIZE, state, steps, strategy, stream=stream
        )
        for stream in (True, False)
    }
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for stream, function in compiled.items():
            first = number * steps
            began = time.perf_counter()
            after, _ = function.train_steps(state, first, first + steps)
            jax.block_until_ready(after)
            duration = time.perf_counter() - began
            if number:  # The first round is a warm-up.
                rates[stream].append(steps * BATCH_SIZE / duration)
    shares = np.divide(rates[True], rates[False])
    return {
        "picture_size": picture_size,
        "pictures": count,
        "first_load_pictures_per_sec": count / seconds[0],
        "later_load_seconds": seconds[1],
        "reading_images_per_sec": len(order) / reading,
        "streamed_examples_per_sec": float(np.median(rates[True])),
        "resident_examples_per_sec": float(np.median(rates[False])),
        "share": float(np.median(shares)),
        "share_range": [float(shares.min()), float(shares.max())],
    }


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("pictures", 2_000, "Number of pictures.", lower_bound=256)
    flags.DEFINE_integer("rounds", 5, "Pairs of timings.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Steps per timing.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures every case; prints and saves the results."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    cases = []
    for size in PICTURE_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
            pictures = f"{folder}/pictures"
            machine.isolated(
                *(write_pictures, pictures, FLAGS.pictures, size),
                *(FLAGS.dataset, FLAGS.data_dir),
            )
            cases.append(
                machine.isolated(measure, pictures, size, FLAGS.rounds, FLAGS.steps)
            )
        print(output.describe(cases[-1]), flush=True)
    heads = ["pictures", "decoded/s", "read/s", "streamed/s", "share"]
    rows = [
        [
            f"{case['picture_size']}x{case['picture_size']}",
            f"{case['first_load_pictures_per_sec']:,.0f}",
            f"{case['reading_images_per_sec']:,.0f}",
            f"{case['streamed_examples_per_sec']:,.0f}",
            "{:.2f} ({:.2f}-{:.2f})".format(case["share"], *case["share_range"]),
        ]
        for case in cases
    ]
    print(f"\n{output.table(heads, rows)}")
    output.keep({"machine": facts, "cases": cases})


if __name__ == "__main__":
    common.run(main, define_flags)
