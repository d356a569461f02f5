"""Trains a network: python -m cifar_jax.train --max_steps=1000.

Started again with the same --train_dir it goes on from the newest checkpoint.
"""

from collections.abc import Sequence

from absl import flags

from cifar_jax import command, config_flags, data, parallel, run_dir
from cifar_jax.loop import fit
from cifar_jax.parallel import say


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    command.no_arguments(arguments)
    options = flags.FLAGS
    parallel.start(
        options.coordinator_address, options.num_processes, options.process_id
    )
    settings = run_dir.settle_dataset(config_flags.read())
    dataset = data.load(settings.dataset, settings.data_dir, settings.validation_size)
    say(
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test "
        f"images from {dataset.source}"
    )
    command.banner(dataset.notice)
    result = fit(settings, dataset)
    command.banner(dataset.notice)
    if result.signum is not None:
        return 128 + result.signum
    if settings.train_dir is not None:
        say(f"next: python -m cifar_jax.eval --checkpoint_dir={settings.train_dir}")
    return 0


def _define_flags() -> None:
    config_flags.define()
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "Of several processes: host:port on which process 0 listens. Not needed where "
        "JAX asks the cluster: SLURM, Open MPI, Cloud TPU, Kubernetes.",
    )
    flags.DEFINE_integer(
        "num_processes", None, "Of several processes: how many.", lower_bound=1
    )
    flags.DEFINE_integer(
        "process_id", None, "Of several processes: which, from 0.", lower_bound=0
    )


if __name__ == "__main__":
    _define_flags()
    command.run(main, __doc__)
