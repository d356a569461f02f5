"""Trains a network: python -m cifar_jax.train --max_steps=1000.

When restarted with the same --train_dir, it resumes from the newest checkpoint.

    python -m cifar_jax.train                     TensorFlow's tutorial
    python -m cifar_jax.train --recipe=sprint     90% within minutes on a CPU
    python -m cifar_jax.train --recipe=finetune --dataset=folder --data_dir=pictures
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import datetime
import shlex
from collections.abc import Sequence

from absl import flags

from cifar_jax import command, console, data
from cifar_jax.config import flags as config_flags
from cifar_jax.config.config import Config
from cifar_jax.data import Dataset, balance
from cifar_jax.devices import cpu, processes
from cifar_jax.runs import run_dir
from cifar_jax.runs.files import check_folder
from cifar_jax.training.fit import FitResult, fit
from cifar_jax.training.hooks import bar
from cifar_jax.training.loop import Hook

# The flags that --help shows: the tutorial's, and those that matter most.
_MAIN_FLAGS = (
    *("recipe", "max_steps", "num_epochs", "batch_size", "train_dir", "dataset"),
    *("data_dir", "validation_size", "train_size", "model", "init_from"),
    *("distortions", "loss", "optimizer", "learning_rate", "seed", "use_fp16"),
    *("num_devices", "average", "log_frequency", "eval_frequency", "keep_best"),
    *("log_device_placement", "progress", "import"),
)
_GROUPS = {"progress": "Command"}


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    command.refuse_arguments(arguments)
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
    config = config.for_images(len(dataset.train))
    console.log(
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test "
        f"images from {dataset.source}"
    )
    for line in balance.describe(dataset, config.loss):
        console.log(line)
    command.print_banner(dataset.notice)
    if config.train_dir is None:
        console.log("--train_dir is empty: nothing from this run is saved")
    if config.use_fp16 and (notice := cpu.bfloat16_notice()):
        console.log(notice)
    log, hooks = _progress(config)
    result = fit(config, dataset, log, hooks)
    command.print_banner(dataset.notice)
    if result.steps:
        console.log(_summary(config, dataset, result))
    if config.train_dir is not None:
        words = [f"--checkpoint_dir={config.train_dir}"]
        if imports := flags.FLAGS["import"].value:
            words.insert(0, f"--import={','.join(imports)}")
        console.log(f"next: python -m cifar_jax.eval {shlex.join(words)}")
    return 0


def _progress(config: Config) -> tuple[console.Log, list[Hook]]:
    """Returns the log and the hooks that show progress, according to --progress."""
    match flags.FLAGS.progress:
        case "none":
            return lambda line: None, []
        case "auto" if not bar.fits():
            return console.log, []
        case "lines":
            return console.log, []
    shown = bar.ProgressBar(config.max_steps, config.batch_size)
    return shown.log, [shown]


def _summary(config: Config, dataset: Dataset, result: FitResult) -> str:
    """Summarizes a training run that has ended."""
    duration = datetime.timedelta(seconds=round(result.seconds))
    rate = result.steps * config.batch_size / result.seconds
    words = [
        f"{result.steps:,} steps in {duration}",
        f"{_format_rate(rate)} examples/sec",
    ]
    if result.precision is not None:
        split = "test" if dataset.validation is None else "validation"
        words.append(f"{split} precision @ 1 = {result.precision:.3f}")
    if config.train_dir is not None:
        words.append(f"everything is in {config.train_dir}")
    return "; ".join(words)


def _format_rate(rate: float) -> str:
    """Returns a rate as a whole number, or with two digits if it is low."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def define_flags() -> None:
    """Defines the flags of this command."""
    config_flags.define()
    flags.DEFINE_enum(
        "progress",
        "auto",
        ["auto", "bar", "lines", "none"],
        "How progress is shown: lines, the tutorial's log; bar, a bar below the log; "
        "none, neither; auto, bar on a terminal that is wide enough, else lines.",
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "With several processes, the host:port on which process 0 listens. Not needed "
        "where JAX detects the cluster: SLURM, Open MPI, Cloud TPU, Kubernetes.",
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Number of processes, if there are several. 1: this process is the only one, "
        "whatever cluster JAX detects.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "process_id",
        None,
        "With several processes, the index of this one, from 0.",
        lower_bound=0,
    )


if __name__ == "__main__":
    command.run(main, define_flags, __doc__, _MAIN_FLAGS, config_flags.GROUPS | _GROUPS)
