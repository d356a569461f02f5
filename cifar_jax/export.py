"""Exports a trained network: python -m cifar_jax.export --out=DIR.

Writes files that can be used without this package:

    DIR/model.stablehlo     a program from images to probabilities, for jax.export
    DIR/model.safetensors   the weights, also for train --init_from
    DIR/config.json         the classes, preprocessing, run and data
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import pathlib
from collections.abc import Sequence

import jax
from absl import flags

from cifar_jax import command, console
from cifar_jax.errors import UserError
from cifar_jax.evaluation import exports
from cifar_jax.runs import run_dir
from cifar_jax.training import trained


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    command.refuse_arguments(arguments)
    options = flags.FLAGS
    if not options.out:
        raise UserError("no folder to export to; pass --out=DIR")
    directory = pathlib.Path(options.out)
    exports.check(directory)
    run = run_dir.read(options.checkpoint_dir)
    network = trained.load(run, raw_params=options.raw_params)
    exports.write(directory, run, network, options.raw_params, options.float16)
    kind = "raw" if options.raw_params else "averaged"
    note = f"step {network.step} of {run.path}, {kind} parameters"
    note += f"; trained on {run.data_source}"
    console.say(note)
    console.say(f"exported to {directory}: {', '.join(exports.FILES)}")
    return 0


def define_flags() -> None:
    """Defines the flags of this command."""
    command.define_path(
        "checkpoint_dir", "cifar10_train", "Folder of the run, its --train_dir."
    )
    command.define_path(
        "out", None, "Folder for the files. An earlier export there is replaced."
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not their averages."
    )
    flags.DEFINE_boolean(
        "float16", False, "Round the weights to float16, for files half the size."
    )


if __name__ == "__main__":
    # Nothing is computed; a GPU may be busy with the run.
    jax.config.update("jax_platforms", "cpu")
    command.run(main, define_flags, __doc__)
