"""Trains a network: python -m cifar_jax.train --max_steps=1000.

Started again with the same --train_dir it goes on from the newest checkpoint.
"""

from collections.abc import Sequence

from cifar_jax import command, config, data, run_dir
from cifar_jax.loop import fit, say


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    command.no_arguments(arguments)
    settings = run_dir.settle_dataset(config.from_flags())
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


if __name__ == "__main__":
    config.define_flags()
    command.run(main, __doc__)
