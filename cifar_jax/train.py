"""Trains a network: python -m cifar_jax.train --max_steps=1000.

When restarted with the same --train_dir, it resumes from the newest checkpoint.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import shlex
from collections.abc import Sequence

from absl import flags

from cifar_jax import command, console, data
from cifar_jax.config import flags as config_flags
from cifar_jax.devices import processes
from cifar_jax.runs import run_dir
from cifar_jax.runs.files import check_folder
from cifar_jax.training.fit import fit


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    command.no_arguments(arguments)
    options = flags.FLAGS
    config = config_flags.read()
    if config.train_dir is not None:
        check_folder(config.train_dir, "train_dir")
    processes.start(
        options.coordinator_address, options.num_processes, options.process_id
    )
    config = run_dir.settle_dataset(config)
    dataset = data.load(
        config.dataset, config.data_dir, config.validation_size, **config.data_options
    )
    console.log(
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test "
        f"images from {dataset.source}"
    )
    command.banner(dataset.notice)
    fit(config, dataset)
    command.banner(dataset.notice)
    if config.train_dir is not None:
        flag = shlex.quote(f"--checkpoint_dir={config.train_dir}")
        console.log(f"next: python -m cifar_jax.eval {flag}")
    return 0


def _define_flags() -> None:
    config_flags.define()
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "With several processes, the host:port on which process 0 listens. Not needed "
        "where JAX detects the cluster: SLURM, Open MPI, Cloud TPU, Kubernetes.",
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "With several processes, how many there are.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "process_id",
        None,
        "With several processes, the number of this one, counted from 0.",
        lower_bound=0,
    )


if __name__ == "__main__":
    _define_flags()
    command.run(main, __doc__)
