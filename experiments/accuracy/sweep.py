r"""Which settings are best?

    python -m experiments.accuracy.sweep --data_dir=DIR --at_a_time=2 \
        --train_flags='--recipe=sprint' \
        --grid=learning_rate=0.25,0.5,1 --grid=seed=0,1
    python -m experiments.accuracy.sweep --data_dir=DIR --trials=20 \
        --train_flags='--validation_size=5000' \
        --random='learning_rate=log(0.01, 1)' --random='weight_decay=0.001,0.004'

Trains and evaluates with many settings. --grid takes values separated by commas, and
all combinations are run. --random takes values to choose from in the same format, or a
range: log(LOW, HIGH), with evenly spread logarithms, uniform(LOW, HIGH), or int(LOW,
HIGH), including both ends. Trial i depends only on --sweep_seed and i, so a larger
--trials extends a smaller one. With both, each trial is run with the whole grid. Put a
value that contains a comma in double quotes, as in CSV:

    --grid='distortions="crop, flip, brightness(63)","crop, flip",crop'

--import=my_networks imports your own code in all runs, as for the train command. Runs
use the real commands in OUT_DIR/<their settings>, where log.txt has the output. They
are evaluated on the held-out images if there are any, otherwise on the test images.
With --at_a_time=N, runs share the cores or the GPUs. The same command, even with more
values, continues interrupted runs, retries failed ones, and repeats nothing else.
Several processes can run it together.

The duration is that of the runs: a minute for two with --dataset=digits
--train_flags='--max_steps=4 --batch_size=8'; for CIFAR-10, see `sprint`.
"""

import concurrent.futures
import dataclasses
import functools
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from cifar_jax import RunError, UserError, plugins, read_run
from cifar_jax.evaluation import comparison
from cifar_jax.runs import checkpoints, lock
from cifar_jax.runs.files import check_folder
from experiments.accuracy import sweep_space, sweep_table
from experiments.harness import common, machine, output, side_by_side
from experiments.harness.jobs import Job, Study
from experiments.harness.side_by_side import Processes, Share

FLAGS = flags.FLAGS

# How the train command reports that training produced non-finite values.
_DIVERGED = "training diverged at step"


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_multi_string(
        "grid", [], "SETTING=VALUE,VALUE,...; all combinations are run; repeatable."
    )
    flags.DEFINE_multi_string(
        "random",
        [],
        "SETTING=VALUE,VALUE,... or =log(LOW,HIGH), =uniform(LOW,HIGH) or "
        "=int(LOW,HIGH), from which each trial draws one value; repeatable.",
    )
    flags.DEFINE_integer("trials", None, "Number of draws of --random.", lower_bound=1)
    flags.DEFINE_integer("sweep_seed", 0, "Seed of the draws.", lower_bound=0)
    flags.DEFINE_string("train_flags", "", "Flags of the train command, for all runs.")
    flags.DEFINE_integer(
        "at_a_time", 1, "Runs at a time, sharing the cores or GPUs.", lower_bound=1
    )
    flags.DEFINE_string(
        "out_dir", "results/sweep", "Directory for runs, one folder per run."
    )


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The runs of a sweep.

    Attributes:
        study: The jobs; each job's task has the settings of a run.
        runs: The name and settings of each run.
        train_flags: The flags shared by all runs.
        split: The images to evaluate on.
    """

    study: Study
    runs: list[tuple[str, sweep_space.Point]]
    train_flags: list[str]
    split: str

    def plan(self, known: Sequence[Job]) -> Job | None:
        """Returns the next run that has not been started."""
        names = {job.name for job in known}
        left = ((name, point) for name, point in self.runs if name not in names)
        return next((Job(name, {"settings": point}) for name, point in left), None)

    def run(
        self, processes: Processes, share: Share, job: Job, folder: pathlib.Path
    ) -> dict[str, Any]:
        """Trains and evaluates; returns the precision, or the reason for failing."""
        processes.check()
        if lock.is_training(folder):
            # The sweep that started it was killed.
            print(f"{job.name}: waiting for the run in progress there", flush=True)
        while lock.is_training(folder):
            processes.check()
            time.sleep(1)
        saved = checkpoints.steps(folder / "checkpoints")
        begins = f"resuming from step {saved[-1]}" if saved else "starting"
        print(f"{job.name}: {begins}, log in {folder / 'log.txt'}", flush=True)
        settings = sweep_space.as_flags(job.task["settings"])
        for name, *words in (
            ("train", f"--train_dir={folder}", *self.train_flags, *settings),
            ("eval", f"--checkpoint_dir={folder}", f"--eval_data={self.split}"),
        ):
            command = [sys.executable, "-m", f"cifar_jax.{name}", *words]
            command += plugins.as_flags()
            log = folder / "log.txt"
            error = processes.run(command, share.environment, log)
            if error is not None:
                return {"diverged" if _DIVERGED in error else "failed": error}
        [record] = comparison.compare([comparison.read(read_run(folder))])
        return {"precision": record["evaluations"][self.split]["last"]}

    def report(self, last: str, known: Sequence[Job]) -> None:
        """Prints the outcome of a run."""
        results = {job.name: job.result for job in known if job.result is not None}
        count = len({name for name, _ in self.runs} | {job.name for job in known})
        [(outcome, found)] = results[last].items()
        if outcome == "precision":
            found = f"{found['precision_at_1']:.3f}"
        print(
            f"{last}: {outcome}: {found} ({len(results)} of {count} done)", flush=True
        )


def main(argv: list[str]) -> None:
    """Makes all runs and prints the table."""
    del argv
    sweep, shares = _prepared()
    sweep.study.reopen(lambda result: "failed" in result)
    with (
        Processes() as processes,
        concurrent.futures.ThreadPoolExecutor(len(shares)) as pool,
    ):

        def work(share: Share) -> list[Job]:
            share.take()

            def plan(known: Sequence[Job]) -> Job | None:
                processes.check()
                return sweep.plan(known)

            run = functools.partial(sweep.run, processes, share)
            return sweep.study.work(plan, run, sweep.report)

        workers = [pool.submit(work, share) for share in shares]
        [*_, jobs] = [worker.result() for worker in workers]
    records = sweep_table.ranked(jobs, sweep.study.directory)
    print(f"\n{sweep_table.table(records, sweep.split)}\n")
    print(sweep_table.notes(records, sweep.split), flush=True)
    output.keep({"machine": machine.machine(), "split": sweep.split, "runs": records})
    if failed := sum("failed" in record for record in records):
        raise RunError(
            f"{failed} of {len(records)} runs failed; rerun the command to retry them"
        )


def _prepared() -> tuple[Sweep, list[Share]]:
    """Returns the sweep that the flags describe, and its runs' shares of the machine.

    Raises:
        UserError: the sweep cannot be run.
    """
    if not (FLAGS.grid or FLAGS.random):
        raise UserError("nothing to vary; pass --grid=SETTING=VALUE,VALUE or --random")
    if bool(FLAGS.random) != (FLAGS.trials is not None):
        raise UserError("--random needs --trials, its number of draws, and vice versa")
    check_folder(FLAGS.out_dir, "out_dir")
    try:
        fixed = shlex.split(FLAGS.train_flags)
    except ValueError as error:
        raise UserError(f"--train_flags={FLAGS.train_flags}: {error}") from None
    grid = sweep_space.read_grid(FLAGS.grid)
    space = sweep_space.read_space(FLAGS.random)
    trials = sweep_space.points(grid, space, FLAGS.trials or 1, FLAGS.sweep_seed)
    data = [f"--dataset={FLAGS.dataset}", f"--data_dir={FLAGS.data_dir}"]
    configs, device, count = machine.isolated(
        sweep_space.check, fixed, data, trials, FLAGS["import"].value
    )
    shares = side_by_side.shares(FLAGS.at_a_time, device.split(":")[0], count)
    runs = sweep_space.unique_runs(trials, configs)
    held_out = all(config.validation_size for config in configs.values())
    split = "validation" if held_out else "test"
    settings = {
        "train_flags": FLAGS.train_flags,
        "dataset": FLAGS.dataset,
        "settings varied": sorted(grid.keys() | space.keys()),
        "random": dict(sorted(text.split("=", 1) for text in FLAGS.random)),
        "sweep_seed": FLAGS.sweep_seed,
        "evaluation on": split,
    }
    study = Study(pathlib.Path(FLAGS.out_dir), settings)
    return Sweep(study, runs, [*fixed, *data], split), shares


if __name__ == "__main__":
    common.run(main, define_flags)
