"""Opens a run: a new one, or one to resume."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from cifar_jax.config.config import Config
from cifar_jax.data import Dataset
from cifar_jax.devices import processes
from cifar_jax.errors import UserError
from cifar_jax.runs import checkpoints, run_dir
from cifar_jax.runs.run_dir import Given, Run


class Opened(NamedTuple):
    """A run that no other process is training.

    Attributes:
        run: the run on disk, or None if nothing is written.
        step: step of the checkpoint to resume from, or None for a new run.
    """

    run: Run | None
    step: int | None


@contextlib.contextmanager
def open_run(config: Config, dataset: Dataset, given: Given) -> Iterator[Opened]:
    """Claims the directory of a run; the main process does so for all of them.

    Nothing in it changes: `run_dir.write_config` is called when training starts.

    Args:
        config: config of the run.
        dataset: data set of the run.
        given: what fit() was given besides them.

    Raises:
        UserError: the processes of the run have different settings or data, the
            directory cannot be used, or it holds a run that this one cannot continue.
        RunError: all of its checkpoints are damaged.
    """
    processes.check_same(run_dir.identity(config, dataset, given))
    if config.train_dir is None:
        yield Opened(None, None)
        return
    run = run_dir.from_config(config, dataset, given)
    with contextlib.ExitStack() as stack:
        claimed = processes.run_on_main(lambda: stack.enter_context(run_dir.claim(run)))
        # Only the main process writes, and checks what has been written.
        run = claimed or dataclasses.replace(run, id=None)
        newest = processes.run_on_main(
            lambda: checkpoints.newest_step(run.checkpoints, run.id)
        )
        step = int(processes.all_gather(-1 if newest is None else newest)[0, 0])
        if step > config.max_steps:
            raise UserError(
                f"--max_steps={config.max_steps} is below step {step}, which the run "
                f"in {run.path} has reached; raise it, or choose another --train_dir"
            )
        yield Opened(run, None if step < 0 else step)
