"""How close are our gradients to TensorFlow's, with the same weights and images?

    python -m experiments.accuracy.gradients --data_dir=DIR \
        --tensorflow_python=TF_ENV/bin/python

Computes the gradients of several batches with the weights of step 0, then trains on
these batches: with fast and with plain operations, and in TensorFlow
(harness/peers/tensorflow_gradients.py) with Eigen, with oneDNN and in float64, all from
the same weights, on the same images without random distortions. Prints the distances
between each pair: of each layer's gradients relative to their norm, of the losses, and
of the changes made by training. Writes gradients.json to --results_dir. Takes a minute
or two on 2 cores.
"""

import itertools
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from numpy.typing import NDArray

from cifar_jax.ops.implementation import Implementation
from experiments.harness import children, common, contenders, machine, output

PEER = str(contenders.PEERS / "tensorflow_gradients.py")
OURS: tuple[Implementation, ...] = ("fast", "plain")
# The peer's environment and options.
TENSORFLOW: dict[str, tuple[dict[str, str], list[str]]] = {
    "Eigen": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, []),
    "oneDNN": ({"TF_ENABLE_ONEDNN_OPTS": "1"}, []),
    "float64": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, ["--float64"]),
}
LATER = ("conv2", "local3", "local4", "softmax_linear")
HEADER = (
    *("pair", "conv1, median", "conv1, largest", "later, median", "later, largest"),
    *("losses", "change"),
)

Values = dict[str, NDArray[Any]]

FLAGS = flags.FLAGS


def by_us(
    implementation: Implementation,
    name: str,
    data_dir: str,
    steps: int,
    batch_size: int,
    to: str,
) -> dict[str, str]:
    """Trains with these operations and saves the inputs and results.

    Args:
        implementation: "fast" or "plain".
        name: The name of the data set.
        data_dir: The folder of the data set, or "".
        steps: The number of steps, each on different images.
        batch_size: Images per step.
        to: The file to write: images, labels, gradients of every batch before training,
            losses, and parameters before and after.

    Returns:
        The source and fingerprint of the images.
    """
    import jax

    import cifar_jax
    from cifar_jax.training.inspection import inspect

    dataset = cifar_jax.load_data(name, data_dir or None)
    config = cifar_jax.Config(distortions="center_crop", ops=implementation)
    program = cifar_jax.build_program(config, len(dataset.class_names))
    train = dataset.train
    state = cifar_jax.init_state(program, jax.random.key(0), train.images)
    options = cifar_jax.compiler_options()
    step = jax.jit(cifar_jax.train_step, static_argnums=0, compiler_options=options)
    look = jax.jit(inspect, static_argnums=0, compiler_options=options)

    def by_name(kind: str, tree: Any) -> Values:
        return {
            f"{kind}/{layer}/{leaf}": np.asarray(value)
            for layer, leaves in tree.items()
            for leaf, value in leaves.items()
        }

    used = steps * batch_size
    sizes = (steps, batch_size)
    images = train.images[:used].reshape(*sizes, *train.images.shape[1:])
    labels = train.labels[:used].reshape(sizes)
    values = {"images": images, "labels": labels} | by_name("before", state.params)
    batches = [
        cifar_jax.Batch.from_arrays(*pair) for pair in zip(images, labels, strict=True)
    ]
    for number, batch in enumerate(batches):
        values |= by_name(f"gradient {number}", look(program, state, batch).grads)
    losses = []
    for batch in batches:
        state, metrics = step(program, state, batch)
        losses.append(float(metrics["total_loss"]))
    values |= by_name("after", state.params) | {"loss": np.array(losses)}
    np.savez(to, allow_pickle=False, **values)
    source = output.without_paths(dataset.source)
    return {"source": source, "fingerprint": dataset.fingerprint}


def by_tensorflow(python: str, name: str, inputs: pathlib.Path) -> Values:
    """Returns TensorFlow's results for the images and weights in a file."""
    environment, options = TENSORFLOW[name]
    to = inputs.with_name(f"{name}.npz")
    command = [python, PEER, f"--inputs={inputs}", f"--to={to}", *options]
    children.run_child(command, environment)
    return dict(np.load(to))


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Returns the norm of the difference, relative to the norm of b."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(b))


def compared(a: Values, b: Values, before: Values) -> dict[str, Any]:
    """Returns the distances between the results of two programs.

    Args:
        a: The results of one program.
        b: The results of the other.
        before: Contains the parameters that both started from.

    Returns:
        The distances of the gradients by parameter, one per batch, the largest distance
        between the losses of a step, and the largest one between the changes of a
        parameter.
    """
    names = [name.removeprefix("after/") for name in a if name.startswith("after/")]

    def change(values: Values, name: str) -> NDArray[Any]:
        return values[f"after/{name}"] - before[f"before/{name}"].astype(np.float64)

    return {
        "gradients": {
            name: [
                distance(a[f"gradient {i}/{name}"], b[f"gradient {i}/{name}"])
                for i in range(len(a["loss"]))
            ]
            for name in names
        },
        "loss": float(np.max(np.abs(a["loss"] / b["loss"] - 1))),
        "change": max(distance(change(a, name), change(b, name)) for name in names),
    }


def row(pair: str, found: dict[str, Any]) -> list[str]:
    """Returns a table row: the result of `compared` for a pair of programs."""

    def span(layers: Sequence[str]) -> list[str]:
        distances = np.max([found["gradients"][f"{k}/kernel"] for k in layers], axis=0)
        return [f"{np.median(distances):.1e}", f"{np.max(distances):.1e}"]

    apart = [f"{found['loss']:.1e}", f"{found['change']:.1%}"]
    return [pair, *span(["conv1"]), *span(LATER), *apart]


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("steps", 20, "Training steps.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_string("tensorflow_python", "", "Python interpreter with TensorFlow.")
    output.define_results_dir()


def main(argv: list[str]) -> None:
    """Runs every program and compares each pair."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    python = contenders.interpreter(FLAGS.tensorflow_python, "tensorflow")
    found: dict[str, Values] = {}
    with tempfile.TemporaryDirectory() as folder:
        for own in OURS:
            print(f"{own} operations", flush=True)
            to = pathlib.Path(folder) / f"{own}.npz"
            arguments = FLAGS.dataset, FLAGS.data_dir, FLAGS.steps, FLAGS.batch_size
            data = machine.isolated(by_us, own, *arguments, str(to))
            found[own] = dict(np.load(to))
        for name in TENSORFLOW if python else ():
            print(f"TensorFlow, {name}", flush=True)
            found[name] = by_tensorflow(python or "", name, to)
    pairs = {
        f"{a}, {b}": compared(found[a], found[b], found["plain"])
        for a, b in itertools.combinations(found, 2)
    }
    print(f"\n{output.table(HEADER, [row(*item) for item in pairs.items()])}")
    settings = {"steps": FLAGS.steps, "batch_size": FLAGS.batch_size}
    record = {"machine": facts, "data": data, "settings": settings, "pairs": pairs}
    output.write(record, pathlib.Path(FLAGS.results_dir) / "gradients.json")


if __name__ == "__main__":
    common.run(main, define_flags)
