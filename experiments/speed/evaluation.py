"""How fast is evaluation here, compared with PyTorch?

    python -m experiments.speed.evaluation --models=resnet18 \
        --pytorch_python=TORCH_ENV/bin/python

Times how long it takes to compute the logits of random images with initial parameters,
in several rounds. In each round, every program runs in its own process, which evaluates
all images once untimed, so that compilation does not count, and then three times; the
median of the three is the round's result. "PyTorch folded" is channels_last with
BatchNorm folded into the convolutions. All programs use only the central crop. Takes
about 10 minutes on 2 cores with the defaults; use an otherwise idle machine.
"""

import functools
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from experiments.harness import children, common, machine, output
from experiments.harness.contenders import (
    MODELS,
    OURS,
    PYTORCH,
    PYTORCH_OPTIONS,
    check_models,
    interpreter,
)

# Timed evaluations in each process, after an untimed one.
CALLS = 3
LINE = re.compile(r"evaluated \d+ images in ([\d.]+) s")

FLAGS = flags.FLAGS
Contender = Callable[[], list[float]]


def write_records(path: str, count: int) -> None:
    """Writes random images as official binary records."""
    records = np.random.RandomState(0).randint(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    records.tofile(path)


def read_images(path: str) -> np.ndarray:
    """Returns the images of binary records, channels last."""
    records = np.fromfile(path, np.uint8).reshape(-1, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def ours(model: str, path: str, batch_size: int) -> list[float]:
    """Times our evaluation; runs in its own process.

    Args:
        model: The name of the network.
        path: The file of records.
        batch_size: The number of images to compute at a time.
    """
    import jax

    from cifar_jax import (
        Config,
        Dataset,
        Split,
        build_program,
        init_state,
        predict_logits,
    )
    from cifar_jax.training.trained import from_state

    images = read_images(path)
    split = Split(images, np.zeros(len(images), np.int32))
    names = tuple(map(str, range(10)))
    data = Dataset.create("random", split, split, class_names=names, source="random")
    program = build_program(Config(**MODELS[model], views="center"), 10)
    network = from_state(program, init_state(program, jax.random.key(0), images), data)
    seconds = []
    for _ in range(1 + CALLS):
        began = time.perf_counter()
        predict_logits(network, images, batch_size)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def theirs(command: list[str]) -> list[float]:
    """Times the evaluation of the PyTorch peer."""
    lines = [text for _, text in children.run_child(command).lines]
    return [float(found[1]) for found in map(LINE.match, lines) if found]


def programs(model: str, path: str, pytorch: str | None) -> dict[str, Contender]:
    """Returns a timing function for each program, by name."""
    found: dict[str, Contender] = {
        OURS: functools.partial(machine.isolated, ours, model, path, FLAGS.batch_size)
    }
    options = PYTORCH_OPTIONS | {"PyTorch folded": ["--channels_last", "--fold"]}
    for name, own in options.items() if pytorch else ():
        command = [str(pytorch), PYTORCH, f"--model={model}", f"--records={path}"]
        command += [f"--batch_size={FLAGS.batch_size}", f"--evaluate={FLAGS.images}"]
        found[name] = functools.partial(theirs, [*command, f"--rounds={CALLS}", *own])
    return found


def compare(model: str, path: str, pytorch: str | None) -> dict[str, Any]:
    """Measures the programs of a network, and prints and returns their results."""
    print(f"\n{model}", flush=True)
    everyone = programs(model, path, pytorch)
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    left_out: dict[str, str] = {}
    for _ in range(FLAGS.rounds):
        for name, run in everyone.items():
            if name in left_out:
                continue
            try:
                seconds[name].append(float(np.median(run())))
            except children.ChildFailedError as error:
                left_out[name] = str(error)
                del seconds[name]
                print(f"  {name}: skipped, {error}", flush=True)
            else:
                print(f"  {name}: {seconds[name][-1]:.3f} s", flush=True)
    print(f"\n{model}, {FLAGS.images} images, batch size {FLAGS.batch_size}")
    print(report(seconds))
    record: dict[str, Any] = {"seconds": seconds, "left_out": left_out}
    peers = [name for name in seconds if name != OURS]
    if peers:
        best = min(peers, key=lambda name: np.median(seconds[name]))
        speedups = ratios(seconds[best], seconds[OURS])
        record |= {"best": best, "ratios": speedups}
        print(f"cifar_jax is {spread(speedups, 2)} times as fast as {best}", flush=True)
    return record


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Returns the ratio in each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def spread(values: list[float], digits: int) -> str:
    """Returns the median and range as text."""
    median, low, high = np.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def report(seconds: dict[str, list[float]]) -> str:
    """Returns the table for a network; ratios are taken round by round."""
    rows = [
        [name, spread(values, 3), spread(ratios(values, seconds[OURS]), 2)]
        for name, values in seconds.items()
    ]
    return output.table(["program", "seconds", "program / cifar_jax"], rows)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("rounds", 5, "Processes per program.", lower_bound=1)
    flags.DEFINE_integer("images", 10_000, "Images to evaluate.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 80, "Images at a time.", lower_bound=1)
    flags.DEFINE_list("models", ["resnet18"], "Networks to evaluate.")
    flags.DEFINE_string("pytorch_python", "", "Python interpreter with PyTorch.")


def main(argv: list[str]) -> None:
    """Measures, prints and saves the durations."""
    del argv
    check_models(FLAGS.models)
    pytorch = interpreter(FLAGS.pytorch_python, "torch")
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/images.bin"
        write_records(path, FLAGS.images)
        models = {model: compare(model, path, pytorch) for model in FLAGS.models}
    sizes = {"images": FLAGS.images, "batch_size": FLAGS.batch_size}
    output.keep({"machine": facts, **sizes, "models": models})


if __name__ == "__main__":
    common.run(main, define_flags)
