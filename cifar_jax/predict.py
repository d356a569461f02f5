"""Classifies pictures: python -m cifar_jax.predict cat.png dog.jpg.

FILE... are pictures in any format and size; - reads one from stdin.
"""

from cifar_jax.training import interrupts

if __name__ == "__main__":
    interrupts.exit_on_signals()

import json
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from jaxtyping import Float

from cifar_jax import command, console
from cifar_jax.data.pictures import read_picture
from cifar_jax.errors import UserError
from cifar_jax.evaluation.inference import classify
from cifar_jax.runs import run_dir
from cifar_jax.training import trained
from cifar_jax.training.trained import Trained

_BAR_WIDTH = 30


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    options = flags.FLAGS
    if not arguments:
        raise UserError("no picture given: python -m cifar_jax.predict FILE...")
    run = run_dir.read(options.checkpoint_dir)
    network = trained.load(run, raw_params=options.raw_params)
    names, images, status = [], [], 0
    for name in arguments:
        try:
            # A standard input that is closed is None.
            stdin = getattr(sys.stdin, "buffer", None)
            images.append(read_picture(stdin if name == "-" else name))
            names.append("stdin" if name == "-" else name)
        except UserError as error:
            # The other pictures still get their answer.
            print(f"error: {console.one_line(str(error))}", file=sys.stderr)
            status = error.exit_code
    if not images:
        return status
    probabilities = classify(network, np.stack(images))
    kind = "raw" if options.raw_params else "averaged"
    note = f"step {network.step} of {run.path}, {kind} parameters"
    if run.config.dataset == "digits":
        note += "; this network was trained on digits"
    print(console.one_line(note), file=sys.stderr)
    if options.json:
        records = [
            {"file": name, "step": network.step, "probabilities": _by_class(network, p)}
            for name, p in zip(names, probabilities, strict=True)
        ]
        console.say(json.dumps(records, indent=2))
    else:
        for name, p in zip(names, probabilities, strict=True):
            console.say(table(name, _by_class(network, p), options.top))
    return status


def table(name: str, probabilities: dict[str, float], top: int) -> str:
    """A picture's likeliest classes, one a line, for people."""
    width = max(map(len, probabilities))
    lines = [console.one_line(name)]
    for label, p in list(probabilities.items())[:top]:
        lines.append(f"  {label:<{width}} {p:7.2%}  {'#' * round(p * _BAR_WIDTH)}")
    return "\n".join(lines)


def _by_class(
    network: Trained, probabilities: Float[np.ndarray, " classes"]
) -> dict[str, float]:
    """Probabilities by class name, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable")
    return {network.class_names[i]: float(probabilities[i]) for i in order}


def _define_flags() -> None:
    flags.DEFINE_string(
        "checkpoint_dir", "cifar10_train", "The --train_dir of the training."
    )
    flags.DEFINE_integer("top", 3, "How many classes the table shows.", lower_bound=1)
    flags.DEFINE_boolean("json", False, "Print all classes as JSON.")
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's parameters, not the averaged ones."
    )


if __name__ == "__main__":
    _define_flags()
    command.run(main, __doc__)
